//! JSON numbers as DynamoDB's. Owns which it can hold exactly; refuses to round.

use std::borrow::Cow;

use runstone_record::limits::{DYNAMO_NUMBER_DIGITS_MAX, DYNAMO_NUMBER_EXPONENT_MAX};

/// The text of a number as DynamoDB takes it; none where it would have to be rounded or is out of range.
pub(super) fn exact(json: &str) -> Option<Cow<'_, str>> {
    let (sign, unsigned) = json.strip_prefix('-').map_or(("", json), |rest| ("-", rest));
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    // Of the first significant digit.
    let leading = i64::try_from(digits.len() - significant.len()).ok()?;
    let place = exponent.checked_add(i64::try_from(whole.len()).ok()? - 1 - leading)?;
    let significant = significant.trim_end_matches('0');
    if significant.is_empty() {
        return Some(Cow::Borrowed("0"));
    }
    if significant.len() > DYNAMO_NUMBER_DIGITS_MAX || place.abs() > DYNAMO_NUMBER_EXPONENT_MAX {
        return None;
    }
    if digits.len() <= DYNAMO_NUMBER_DIGITS_MAX {
        return Some(Cow::Borrowed(json));
    }
    // Zeros around it count as digits for some readers.
    let last = place - i64::try_from(significant.len()).ok()? + 1;
    Some(Cow::Owned(format!("{sign}{significant}E{last}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_is_kept_as_it_is_written() {
        let digits = "12345678901234567890123456789012345678";
        let tiny = format!("0.{}1", "0".repeat(124));
        for (json, kept) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.000e5", "0"),
            ("1", "1"),
            ("-12.50", "-12.50"),
            ("1E+2", "1E+2"),
            (digits, digits),
            ("9.9e125", "9.9e125"),
            ("1e-125", "1e-125"),
            (&tiny, "1E-125"),
            (&format!("1{}", "0".repeat(100)), "1E100"),
            (&format!("-{digits}.{}", "0".repeat(9)), &format!("-{digits}E0")),
        ] {
            assert_eq!(exact(json).as_deref(), Some(kept), "{json}");
        }
        for json in
            [&format!("{digits}9"), &format!("0.{digits}1"), "1e126", "10e125", "1e-126", "-1e999999999999999999999"]
        {
            assert_eq!(exact(json), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_rounded(json in "-?(0|[1-9][0-9]{0,45})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
            if let Some(kept) = exact(&json) {
                let value = |text: &str| text.parse::<f64>().unwrap();
                prop_assert!(value(&kept) == value(&json), "{} {}", kept, json);
            }
        }
    }
}
