"""Pages, tables, charts and downloads of the site."""
