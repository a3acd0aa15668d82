//! Starts tracing. Where logs go (the terminal with its progress bars, or plain stderr) is the
//! caller's choice.

use tracing_subscriber::{
    EnvFilter, Layer, fmt::writer::BoxMakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

use super::Error;

/// Overrides the level of each module, such as `info,axs::core::leader=debug`.
pub const FILTER_VARIABLE: &str = "AXS_LOG";

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the log shows and where it goes.
pub struct Logs {
    /// Text or JSON.
    pub format: Format,
    /// As `tracing_subscriber` reads it; [`FILTER_VARIABLE`] wins.
    pub filter: String,
    /// Colours, in text.
    pub color: bool,
    /// Where it goes.
    pub writer: BoxMakeWriter,
}

/// Starts the process's log. Once per process.
pub fn start(logs: Logs) -> Result<(), Error> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|error| Error::Setup(format!("{FILTER_VARIABLE}: {error}")))?,
        _ => EnvFilter::try_new(&logs.filter).map_err(|error| Error::Setup(error.to_string()))?,
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(logs.writer)
        .with_ansi(logs.color);
    let layer = match logs.format {
        Format::Text => layer.with_target(false).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    // As a layer of its own, not as the layer's filter: there a mere `log_enabled!` of a library
    // leaves a mark behind that swallows the thread's next event.
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()
        .map_err(|error| Error::Setup(error.to_string()))
}
