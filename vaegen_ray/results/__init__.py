"""What a sweep leaves behind: the columns (schema), the files (storage, store) and how to read them (query)."""
