//! Which functions SQL has. Owns the list; a function that is not in it does not exist here: none reads a file, sleeps,
//! or makes long texts out of a number.

use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::ScalarUDF;

use crate::dates;
use crate::growth::LIMITED;

/// The scalar functions, by their first names; other names of the same function come along.
const SCALARS: &[&str] = &[
    // numbers
    "abs ceil exp floor gcd isnan iszero lcm ln log log10 log2 nanvl pi power random round signum sqrt \
     trunc cbrt acos acosh asin asinh atan atan2 atanh cos cosh cot degrees radians sin sinh tan tanh",
    // texts
    "ascii bit_length btrim character_length chr concat concat_ws contains ends_with find_in_set initcap \
     left lower ltrim octet_length overlay replace reverse right rtrim split_part starts_with strpos \
     substr substr_index to_hex translate upper regexp_count regexp_instr regexp_like regexp_match \
     regexp_replace",
    // times
    "current_date current_time date_bin from_unixtime make_date make_time now to_local_time to_time \
     to_timestamp_micros to_timestamp_millis to_timestamp_nanos to_unixtime",
    // conditions and types
    "arrow_typeof cast_to_type try_cast_to_type coalesce get_field greatest \
     least nullif nvl nvl2 named_struct struct uuid",
    // lists
    "array_any_value array_distinct array_element array_has array_has_all array_has_any array_length \
     array_max array_min array_position array_slice array_sort array_to_string cardinality empty \
     make_array string_to_array",
    // JSON
    "json_as_text json_contains json_from_scalar json_get json_get_array json_get_bool json_get_float \
     json_get_int json_get_json json_get_str json_length json_object_keys json_union_to_text",
];

/// The scalar functions that queries may call.
pub(crate) fn scalars() -> Vec<Arc<ScalarUDF>> {
    let mut functions = SessionStateDefaults::default_scalar_functions();
    functions.retain(|function| is_allowed(function.name()) && !dates::is_one(function.name()));
    functions.extend(dates::functions());
    functions
}

/// May a plan call this function? Operators stand for some that are not called by name.
pub(crate) fn is_allowed(name: &str) -> bool {
    name == LIMITED
        || dates::is_one(name)
        || SCALARS.iter().any(|group| group.split_whitespace().any(|known| known == name))
}

/// Is this function's second argument a regular expression?
pub(crate) fn takes_regex(name: &str) -> bool {
    name.starts_with("regexp_")
}
