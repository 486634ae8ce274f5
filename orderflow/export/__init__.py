"""Recordings as other programs want them: Parquet, hftbacktest's arrays, and views in Arrow, Polars, pandas, DuckDB."""
