//! What a table may be called. Owns the list of words that SQL keeps for itself.

/// Bytes of a name: PostgreSQL's limit.
const NAME_BYTES_MAX: usize = 63;

/// Tables of ours.
const TAKEN: [&str; 4] = ["logs", "runs", "sources", "information_schema"];

/// Words that PostgreSQL keeps for itself where a table may stand.
const RESERVED: &str = "all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate \
     collation column concurrently constraint create cross current_catalog current_date current_role current_schema \
     current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for \
     foreign freeze from full grant group having ilike in initially inner intersect into is isnull join lateral leading \
     left like limit localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing \
     primary references returning right select session_user similar some symmetric system_user table tablesample then \
     to trailing true union unique user using variadic verbose when where window with";

/// Can a table have this name?
///
/// # Errors
/// Why not.
pub fn check_table_name(name: &str) -> Result<(), String> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("a table's name may have {NAME_BYTES_MAX} bytes, this has {}", name.len()));
    }
    if !starts || !name.chars().all(plain) {
        return Err("a table's name is a small letter or _, then small letters, digits and _".to_owned());
    }
    if TAKEN.contains(&name) {
        return Err("there is such a table already; choose another name".to_owned());
    }
    if RESERVED.split_whitespace().any(|word| word == name) {
        return Err("the name is a word of SQL; choose another".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_identifier_that_needs_no_quotes() {
        for name in ["orders", "_x9", "order_items", &"a".repeat(63)] {
            assert_eq!(check_table_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "9a",
            "Orders",
            "a-b",
            "a.b",
            "x\"; DROP TABLE y;--",
            "größe",
            "select",
            "user",
            "logs",
            "sources",
            &"a".repeat(64),
        ] {
            assert!(check_table_name(name).is_err(), "{name}");
        }
    }
}
