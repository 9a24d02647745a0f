"""Operations on sequences, one package each, and their shared helpers."""
