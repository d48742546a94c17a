//! A table of PostgreSQL.
