"""Jobs in segments: resumable runs, several workers, several machines."""
