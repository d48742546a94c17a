//! The names that people choose for attributes. Owns which of them cannot be: an append's update would set one attribute twice,
//! or its key, and DynamoDB refuses that.

use super::item::{BYTES, CONTINUED, CREATED, IDS, IDS_BEFORE, LOGS, POSITION, POSITION_OF, UPDATED};
use super::letters::{GZIP, ID, REASON, SOURCE};

/// What items have for themselves: logs, cursors and dead letters.
const OWN: [&str; 12] = [LOGS, CREATED, UPDATED, BYTES, CONTINUED, IDS, IDS_BEFORE, POSITION, SOURCE, ID, REASON, GZIP];

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The key's is that of something else in an item.
    #[error("name the key: items have something else under this name: {name}")]
    Key {
        /// The name.
        name: String,
    },
    /// The time to live's is that of something else in an item.
    #[error("name the attribute of the time to live: items have something else under this name: {name}")]
    Ttl {
        /// The name.
        name: String,
    },
    /// The time to live's is the key's.
    #[error("name the attribute of the time to live: it is the key: {name}")]
    TtlIsKey {
        /// The name.
        name: String,
    },
}

/// Can a table have this key, and this attribute for the time to live?
///
/// # Errors
/// One of them is a name that items use themselves, or both are the same.
pub fn check_names(key: &str, ttl_attribute: &str) -> Result<(), NameError> {
    if is_own(key) {
        return Err(NameError::Key { name: key.to_owned() });
    }
    if is_own(ttl_attribute) {
        return Err(NameError::Ttl { name: ttl_attribute.to_owned() });
    }
    if key == ttl_attribute {
        return Err(NameError::TtlIsKey { name: key.to_owned() });
    }
    Ok(())
}

fn is_own(name: &str) -> bool {
    OWN.contains(&name) || name.starts_with(POSITION_OF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_items_use_themselves_are_refused() {
        for own in [
            "logs",
            "created_at",
            "updated_at",
            "log_bytes",
            "continued",
            "append_ids",
            "append_ids_before",
            "position",
            "position 0192f0c1-0000-7f40-8a5b-6c7d8e9fa0b1/1",
            "position ",
            "source",
            "record_id",
            "reason",
            "gzip",
        ] {
            assert_eq!(check_names("run_id", own), Err(NameError::Ttl { name: own.to_owned() }));
            assert_eq!(check_names(own, "expires_at"), Err(NameError::Key { name: own.to_owned() }));
        }
        assert_eq!(check_names("name", "name"), Err(NameError::TtlIsKey { name: "name".to_owned() }));
        for (key, ttl) in [("run_id", "expires_at"), ("name", "ttl"), ("Logs", "positions"), ("id", "type")] {
            assert_eq!(check_names(key, ttl), Ok(()), "{key} {ttl}");
        }
    }
}
