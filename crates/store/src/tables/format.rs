//! What files hold: found out by their names, or said in the settings.

use std::sync::Arc;

use datafusion::config::TableParquetOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;

/// Rows of a CSV or JSON file that its columns' types are guessed from.
pub(super) const GUESS_ROWS: usize = 1_000;

/// What a table's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// Parquet.
    Parquet,
    /// Comma-separated values with a header.
    Csv,
    /// The same with tabs.
    Tsv,
    /// Objects, one a line.
    Json,
    /// Parquet with a Delta log.
    Delta,
}

impl TableFormat {
    /// Every word that names one.
    pub const WORDS: [&'static str; 5] = ["parquet", "csv", "tsv", "json", "delta"];

    /// The format of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "parquet" => Self::Parquet,
            "csv" => Self::Csv,
            "tsv" => Self::Tsv,
            "json" => Self::Json,
            "delta" => Self::Delta,
            _ => return None,
        })
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Json => "json",
            Self::Delta => "delta",
        }
    }

    /// What a file's name says.
    pub(super) fn of_file(path: &str) -> Option<Self> {
        let (_, extension) = path.rsplit('/').next().unwrap_or(path).rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "parquet" | "parq" | "pqt" => Self::Parquet,
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            "json" | "ndjson" | "jsonl" => Self::Json,
            _ => return None,
        })
    }

    /// Who reads it. `array`: a JSON file is one array.
    pub(super) fn reader(self, array: bool) -> Arc<dyn FileFormat> {
        match self {
            Self::Parquet | Self::Delta => {
                let mut options = TableParquetOptions::default();
                options.global.pushdown_filters = true;
                options.global.schema_force_view_types = false;
                Arc::new(ParquetFormat::default().with_options(options))
            }
            Self::Csv => Arc::new(csv(b',')),
            Self::Tsv => Arc::new(csv(b'\t')),
            Self::Json => {
                Arc::new(JsonFormat::default().with_schema_infer_max_rec(GUESS_ROWS).with_newline_delimited(!array))
            }
        }
    }
}

fn csv(delimiter: u8) -> CsvFormat {
    CsvFormat::default()
        .with_has_header(true)
        .with_delimiter(delimiter)
        .with_schema_infer_max_rec(GUESS_ROWS)
        // A line break within quotes would cut a file in the wrong place where threads share it.
        .with_newlines_in_values(true)
}
