//! The Rust snippet of README.md, as a program: `cargo run -p runstone-sdk --example readme -- URL`. A test keeps the two
//! in step.

#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use runstone_sdk::{Batch, Client, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("name the server's URL")?;
    // README: begin
    let client = Client::builder(&url).build()?;
    let done = Record::from_json(r#"{"run_id": "nightly-1", "type": "success", "message": "done"}"#)?;
    let batch = Batch::of(&[done])?;
    let report = client.send(&batch).await?;
    println!("{} accepted", report.accepted);
    // README: end
    Ok(())
}
