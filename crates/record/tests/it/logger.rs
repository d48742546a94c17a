//! The Logger's answers to a list of events, as functions give them: both are golden.

use runstone_record::ErrorCode;
use runstone_record::logger::{self, Answer, Shape};

use crate::{NOW, golden};

#[test]
fn answers_stay_as_they_were() {
    let events = golden::read("logger.v1.events.ndjson");
    let mut answers = String::new();
    for event in events.split(|byte| *byte == b'\n').filter(|event| !event.is_empty()) {
        let (shape, entry) = logger::read(event, NOW);
        let answer = entry.map_or_else(|refusal| refusal.answer(), |entry| Answer::appended(&entry));
        answers.push_str(&answer.envelope(shape));
        answers.push('\n');
    }
    answers.push_str(&Answer::failed(ErrorCode::Internal, "reach DynamoDB").envelope(Shape::Direct));
    answers.push('\n');
    golden::check("logger.v1.answers.ndjson", answers.as_bytes());
}
