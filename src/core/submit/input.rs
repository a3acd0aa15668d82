//! Lines from a file or a pipe, as commands. Reads ahead by a bounded number of lines.

use std::io;

use prost::Message;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader},
    sync::mpsc,
};

use super::{LINE_BYTES_MAX, LineReport};
use crate::core::{
    command::{
        COMMAND_BYTES_MAX,
        json::{JsonError, from_json},
    },
    proto::Command,
};

/// Lines parsed ahead of the sender.
const LINES_AHEAD_MAX: usize = 64;

/// A line that is not blank.
pub(super) enum Line {
    /// To send, with the bytes it was written in.
    Command {
        line: u64,
        command: Box<Command>,
        bytes: usize,
    },
    /// Answered already.
    Invalid(Box<LineReport>),
    /// No further line can be read.
    Broken(io::Error),
}

/// Reads in a task of its own; the channel closes after the last line.
pub(super) fn read(input: impl AsyncRead + Unpin + Send + 'static) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    tokio::spawn(async move {
        let mut input = BufReader::with_capacity(256 * 1024, input);
        let mut text = Vec::new();
        let mut number = 0;
        loop {
            text.clear();
            let parsed = match read_line(&mut input, &mut text).await {
                Ok(Some(whole)) => {
                    number += 1;
                    parse(number, &text, whole)
                }
                Ok(None) => return,
                Err(error) => Some(Line::Broken(error)),
            };
            let Some(line) = parsed else { continue };
            let broken = matches!(line, Line::Broken(_));
            if sender.send(line).await.is_err() || broken {
                return;
            }
        }
    });
    receiver
}

/// The next line without its end. `Some(false)`: too long, and only its beginning was kept.
async fn read_line(
    input: &mut (impl AsyncBufRead + Unpin),
    text: &mut Vec<u8>,
) -> io::Result<Option<bool>> {
    let mut whole = true;
    let mut started = false;
    loop {
        let chunk = input.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(started.then_some(whole));
        }
        started = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        let room = LINE_BYTES_MAX - text.len();
        whole &= taken <= room;
        text.extend_from_slice(&chunk[..taken.min(room)]);
        input.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(Some(whole));
        }
    }
}

/// `None`: a blank line.
fn parse(line: u64, text: &[u8], whole: bool) -> Option<Line> {
    let invalid = |field: &str, message: String| {
        let field = field.to_owned();
        let report = LineReport::invalid(line, JsonError { field, message });
        Some(Line::Invalid(Box::new(report)))
    };
    if !whole {
        let message = format!("the line is longer than {LINE_BYTES_MAX} bytes");
        return invalid("", message);
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return invalid("", "the line must be UTF-8 text".into());
    };
    if text.trim().is_empty() {
        return None;
    }
    let command = match from_json(text) {
        Ok(command) => command,
        Err(error) => return invalid(&error.field, error.message),
    };
    // The server would end the whole stream over a message beyond its limit.
    if command.encoded_len() > COMMAND_BYTES_MAX {
        let message = format!("the command is larger than {COMMAND_BYTES_MAX} bytes");
        return invalid("command", message);
    }
    Some(Line::Command {
        line,
        command: Box::new(command),
        bytes: text.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: Vec<u8>) -> Vec<(u64, bool, String)> {
        let mut lines = read(io::Cursor::new(input));
        let mut seen = Vec::new();
        while let Some(line) = lines.recv().await {
            seen.push(match line {
                Line::Command { line, command, .. } => (line, true, command.idempotency_key),
                Line::Invalid(report) => (report.line, false, report.message),
                Line::Broken(error) => panic!("a cursor reads to its end: {error}"),
            });
        }
        seen
    }

    #[tokio::test]
    async fn blank_lines_count_and_bad_lines_are_told_apart() {
        let mut input = b"\n  \r\n{\"idempotency_key\":\"a\"}\r\n\xff\xfe\n{\n".to_vec();
        input.extend(vec![b'x'; LINE_BYTES_MAX + 1]);
        input.extend(b"\n{\"idempotency_key\":\"b\"}");
        let seen = lines(input).await;
        let shapes: Vec<_> = seen.iter().map(|(line, ok, _)| (*line, *ok)).collect();
        assert_eq!(
            shapes,
            [(3, true), (4, false), (5, false), (6, false), (7, true)]
        );
        assert_eq!((seen[0].2.as_str(), seen[4].2.as_str()), ("a", "b"));
        assert_eq!(seen[1].2, "the line must be UTF-8 text");
        assert_eq!(seen[3].2, "the line is longer than 1048576 bytes");
    }

    #[tokio::test]
    async fn a_command_beyond_the_limit_is_not_sent() {
        let reference = "r".repeat(COMMAND_BYTES_MAX);
        let seen = lines(format!("{{\"reference\":\"{reference}\"}}").into_bytes()).await;
        assert_eq!(
            seen,
            [(1, false, "the command is larger than 32768 bytes".into())]
        );
    }

    #[tokio::test]
    async fn nothing_in_nothing_out() {
        assert_eq!(lines(Vec::new()).await, []);
    }
}
