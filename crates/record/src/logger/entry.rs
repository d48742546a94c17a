//! An event → an entry. Owns the order in which an event is looked at and the Logger's own demands: the required fields,
//! that they are strings, and that `metadata` is an object. Refuses to judge anything else: the record's parser does.

use jiter::Peek;

use super::event::{self, Member, member};
use super::{Entry, Refusal};
use crate::columns::Column;
use crate::ids::RecordId;
use crate::json::write_string;
use crate::parse::{self, BodyError, ItemError, Parsed};
use crate::time::{TimeError, format_micros, format_millis, parse_rfc3339_or_utc};
use crate::words::RecordType;

const REQUIRED: [&str; 2] = ["run_id", "log_entry"];
const REQUIRED_IN_ENTRY: [&str; 3] = ["type", "title", "description"];
/// Where a word is kept that is no type of record.
const ODD_TYPE: &str = "log_type";

pub(super) fn read(event: &[u8], now: i64) -> Result<Entry, Refusal> {
    let members = event::parse(event)?;
    for name in REQUIRED {
        once(&members, name, "Invalid event")?;
    }
    let [run_id, log_entry] = REQUIRED
        .map(|name| member(&members, name).ok_or_else(|| Refusal::new(format!("Missing required field: {name}"))));
    let (run_id, log_entry) = (run_id?, log_entry?);
    let fields = event::members(log_entry.json)
        .map_err(|error| Refusal::of_entry(&error))?
        .map_err(|got| Refusal::new(format!("Invalid field: log_entry must be an object, got {got}")))?;
    for name in REQUIRED_IN_ENTRY {
        if member(&fields, name).is_none() {
            return Err(Refusal::new(format!("Missing required field in log_entry: {name}")));
        }
    }
    let run_id = text(run_id, "Invalid field")?;
    // The parser sees a type that is a number, but takes one as a title.
    for field in REQUIRED_IN_ENTRY.into_iter().filter_map(|name| member(&fields, name)) {
        text(field, IN_ENTRY)?;
    }
    if let Some(metadata) = member(&fields, "metadata").filter(|metadata| metadata.peek != Peek::Object) {
        return Err(invalid(IN_ENTRY, &format!("metadata must be an object, got {}", metadata.kind())));
    }
    assemble(run_id, &fields, now)
}

/// An entry of a log that a store has, as if it came now; none, where it would be refused: others may have put it there.
pub(super) fn read_stored(run_id: &str, entry: &[u8], now: i64) -> Option<Entry> {
    // What is no object by itself could end the event, and go on behind it.
    event::members(entry).ok()?.ok()?;
    let mut event = b"{\"run_id\":".to_vec();
    write_string(run_id, &mut event);
    event.extend_from_slice(b",\"log_entry\":");
    event.extend_from_slice(entry);
    event.push(b'}');
    read(&event, now).ok()
}

const IN_ENTRY: &str = "Invalid field in log_entry";

fn invalid(what: &str, why: &str) -> Refusal {
    Refusal::new(format!("{what}: {why}"))
}

fn once(members: &[Member<'_>], name: &str, what: &str) -> Result<(), Refusal> {
    if members.iter().filter(|member| member.name == name).count() > 1 {
        return Err(invalid(what, &format!("{name} must stand once")));
    }
    Ok(())
}

fn text(member: &Member<'_>, what: &str) -> Result<String, Refusal> {
    let name = &member.name;
    if member.peek != Peek::String {
        return Err(invalid(what, &format!("{name} must be a string, got {}", member.kind())));
    }
    member.text().map_err(|error| invalid(what, &format!("{name} is not JSON: {}", error.error_type)))
}

fn is_time(member: &Member<'_>) -> bool {
    Column::from_field(&member.name) == Some(Column::Timestamp)
}

fn has_time(member: &Member<'_>) -> bool {
    is_time(member) && member.peek != Peek::Null
}

/// The time that an entry names, or the one that is given, of which the Logger has always printed the milliseconds.
fn time(fields: &[Member<'_>], now: i64) -> Result<i64, Refusal> {
    let Some(field) = fields.iter().find(|field| has_time(field)) else {
        return Ok(now - now.rem_euclid(1_000));
    };
    parse_rfc3339_or_utc(&text(field, IN_ENTRY)?).map_err(|error| {
        let why = match error {
            TimeError::Form => "must be RFC 3339, such as 2025-01-13T12:34:56.789Z".to_owned(),
            TimeError::Range => error.to_string(),
        };
        invalid(IN_ENTRY, &format!("{} {why}", field.name))
    })
}

/// The entry, if the record that it becomes is one.
fn assemble(run_id: String, fields: &[Member<'_>], now: i64) -> Result<Entry, Refusal> {
    let timestamp = time(fields, now)?;
    let word = member(fields, "type").map(|field| text(field, IN_ENTRY)).transpose()?.unwrap_or_default();
    let warning = RecordType::read(&word).is_none().then(|| odd_type(&word));
    let (mut json, mut record) = (Object::default(), Object::default());
    record.string(Column::RunId.name(), &run_id);
    if !fields.iter().any(has_time) {
        json.string(Column::Timestamp.name(), &printed(timestamp));
        record.string(Column::Timestamp.name(), &printed(timestamp));
    }
    for field in fields.iter().filter(|field| !is_time(field) || has_time(field)) {
        let name = field.name.as_str();
        if has_time(field) {
            json.string(Column::Timestamp.name(), &printed(timestamp));
            record.string(name, &printed(timestamp));
            continue;
        }
        json.raw(name, field.json);
        if name == Column::Type.name() && warning.is_some() {
            record.string(name, RecordType::Log.as_str());
            record.string(ODD_TYPE, &word);
        } else if name != Column::RunId.name() || field.text().ok().as_ref() != Some(&run_id) {
            // The event's own run, said again, is no second one.
            record.raw(name, field.json);
        }
    }
    let parsed = parse_record(&record.end())?;
    let id = member(fields, "id").and_then(|field| RecordId::parse(&field.text().ok()?).ok());
    let json = String::from_utf8(json.end()).map_err(|_| Refusal::new("Invalid event: not UTF-8"))?;
    let has_time = fields.iter().any(has_time);
    Ok(Entry { run_id, timestamp, has_time, id, json, parsed, warning })
}

/// As an entry keeps its time: in the form of the answers where that says all of it.
pub(super) fn printed(micros: i64) -> String {
    if micros % 1_000 == 0 { format_millis(micros) } else { format_micros(micros) }
}

fn odd_type(word: &str) -> String {
    let known: Vec<&str> = RecordType::ALL.iter().map(|kind| kind.as_str()).collect();
    let word: String = word.chars().take(40).collect();
    format!("Unknown type: {word}; it is kept as {ODD_TYPE} of a log line. Known types: {}", known.join(", "))
}

fn parse_record(json: &[u8]) -> Result<Parsed, Refusal> {
    let parsed = parse::json(json).map_err(|error| match error {
        BodyError::Syntax { message } => Refusal::new(format!("Invalid event: not JSON: {message}")),
        other => Refusal::new(format!("Invalid event: {other}")),
    })?;
    match parsed.errors.first() {
        Some(error) => Err(refusal(error)),
        None => Ok(parsed),
    }
}

fn refusal(error: &ItemError) -> Refusal {
    let message = &error.message;
    match error.field.as_deref() {
        None => Refusal::of_entry(message),
        Some("run_id") => invalid("Invalid field", &format!("run_id {message}")),
        Some(name) => invalid(IN_ENTRY, &format!("{name} {message}")),
    }
}

/// An object in the making.
#[derive(Default)]
struct Object {
    text: Vec<u8>,
}

impl Object {
    fn name(&mut self, name: &str) {
        self.text.push(if self.text.is_empty() { b'{' } else { b',' });
        write_string(name, &mut self.text);
        self.text.push(b':');
    }

    fn string(&mut self, name: &str, text: &str) {
        self.name(name);
        write_string(text, &mut self.text);
    }

    fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.text.extend_from_slice(json);
    }

    fn end(mut self) -> Vec<u8> {
        if self.text.is_empty() {
            self.text.push(b'{');
        }
        self.text.push(b'}');
        self.text
    }
}
