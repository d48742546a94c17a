//! What a request says its body is. Owns the reading of `Content-Type` and `Content-Encoding`; refuses to guess from
//! the bytes.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use runstone_record::ErrorCode;

use crate::http::ApiError;
use crate::http::error::echo;

const TYPES_TAKEN: &str = "application/json or application/x-ndjson";
const ENCODINGS_TAKEN: &str = "gzip, zstd or identity";

/// How the records of a body are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// One JSON document: an object or an array.
    Json,
    /// One JSON document a line.
    Ndjson,
}

impl MediaType {
    /// The layout that `Content-Type` names.
    ///
    /// # Errors
    /// `unsupported_media_type`: it is missing, another type, or has a charset other than UTF-8.
    pub fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut values = headers.get_all(CONTENT_TYPE).iter();
        let Some(value) = values.next() else {
            return Err(unsupported_type(format!("name the Content-Type: {TYPES_TAKEN}")));
        };
        if values.next().is_some() {
            return Err(unsupported_type(format!("send {TYPES_TAKEN}, got several Content-Type headers")));
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let media_type = match essence.as_str() {
            "application/json" => Self::Json,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Self::Ndjson
            }
            json if json.starts_with("application/") && json.ends_with("+json") => Self::Json,
            "application/x-www-form-urlencoded" => {
                return Err(unsupported_type(format!(
                    "send {TYPES_TAKEN}; curl needs -H 'Content-Type: application/json', and --data-binary for files"
                )));
            }
            other => return Err(unsupported_type(format!("send {TYPES_TAKEN}, got {}", echo(other)))),
        };
        match charset(parts) {
            Some(other) if !is_utf8(&other) => {
                Err(unsupported_type(format!("send the body as UTF-8, got charset {}", echo(&other))))
            }
            _ => Ok(media_type),
        }
    }
}

fn charset<'a>(mut parameters: impl Iterator<Item = &'a str>) -> Option<String> {
    parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

fn unsupported_type(message: String) -> ApiError {
    ApiError::new(ErrorCode::UnsupportedMediaType, message)
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The one encoding that `Content-Encoding` names; a stack of them is refused.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let first = values.next().map(HeaderValue::as_bytes);
        if values.next().is_some() {
            return Err(unsupported_encoding("several Content-Encoding headers"));
        }
        match first.unwrap_or_default().trim_ascii() {
            name if name.is_empty() || name.eq_ignore_ascii_case(b"identity") => Ok(Self::Identity),
            name if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") => Ok(Self::Gzip),
            name if name.eq_ignore_ascii_case(b"zstd") => Ok(Self::Zstd),
            name => Err(unsupported_encoding(&echo(&String::from_utf8_lossy(name)))),
        }
    }
}

fn unsupported_encoding(got: &str) -> ApiError {
    ApiError::new(ErrorCode::UnsupportedEncoding, format!("compress with one of {ENCODINGS_TAKEN}, got {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(value: &str) -> Result<MediaType, ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        MediaType::of(&headers).map_err(|error| error.code())
    }

    #[test]
    fn json_and_ndjson_are_taken_in_their_spellings() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/vnd.runstone.v1+json",
            "application/json; profile=x",
        ] {
            assert_eq!(media_type(json), Ok(MediaType::Json), "{json}");
        }
        for ndjson in ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"] {
            assert_eq!(media_type(ndjson), Ok(MediaType::Ndjson), "{ndjson}");
        }
    }

    #[test]
    fn other_types_and_charsets_are_refused() {
        for other in ["text/xml", "", "json", "application/json; charset=utf-16", "multipart/form-data", "text/+json"] {
            assert_eq!(media_type(other), Err(ErrorCode::UnsupportedMediaType), "{other}");
        }
        assert!(MediaType::of(&HeaderMap::new()).is_err());
    }

    #[test]
    fn the_type_that_curl_sends_unasked_gets_a_hint() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let error = MediaType::of(&headers).unwrap_err();
        assert!(error.message().contains("-H 'Content-Type: application/json'"), "{error}");
    }

    #[test]
    fn one_known_encoding_is_taken() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            Encoding::of(&headers).map_err(|error| error.code())
        };
        assert_eq!(of(&[]), Ok(Encoding::Identity));
        assert_eq!(of(&["identity"]), Ok(Encoding::Identity));
        assert_eq!(of(&[" GZip "]), Ok(Encoding::Gzip));
        assert_eq!(of(&["zstd"]), Ok(Encoding::Zstd));
        for stacked in [&["br"][..], &["gzip, gzip"], &["gzip", "zstd"], &["deflate"]] {
            assert_eq!(of(stacked), Err(ErrorCode::UnsupportedEncoding), "{stacked:?}");
        }
    }
}
