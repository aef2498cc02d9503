"""What a run needs: profiles, results, figures, files, errors."""
