//! What queries read: Arrow chunks of recent records and the read-only SQL session over them.
