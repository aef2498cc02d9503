"""What a run needs: its scale, its files, its numbers and its figures."""
