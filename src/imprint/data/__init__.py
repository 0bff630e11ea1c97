"""From a corpus to validated, partitioned interactions: ingest, validate, partition, and how tables are written."""
