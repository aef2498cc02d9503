"""What only a course needs: exercise checks, explorers, hand-ins."""
