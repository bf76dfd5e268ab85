"""What everything else stands on: files, arrays, tables, the terminal, several processes, optional packages."""
