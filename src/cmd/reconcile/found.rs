//! What was found: counted, the first kept, all of it written to a file as it comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use axs::core::{
    reconcile::{Event, Finding, Kind},
    types::ShardId,
};
use tokio::sync::mpsc;

use super::{super::ui::Progress, next};

/// Differences kept for JSON; more are counted, and in the file.
pub const LISTED_MAX: usize = 1_000;

const HEADER: &str = "kind,shard,account,asset,version,position,command,stored,expected";

/// Differences.
pub struct Found {
    pub total: u64,
    pub kinds: BTreeMap<&'static str, u64>,
    /// The first, in no order until [`Found::end`].
    pub listed: Vec<Finding>,
    of_kinds: BTreeSet<Kind>,
    of_shards: BTreeSet<ShardId>,
    file: Option<BufWriter<File>>,
    /// Why the file is not whole.
    error: Option<std::io::Error>,
}

impl Found {
    /// Nothing yet; makes the file, if there is to be one.
    pub fn new(export: Option<&Path>) -> Result<Self> {
        let file = match export {
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("`{}` cannot be written", path.display()))?;
                let mut file = BufWriter::new(file);
                writeln!(file, "{HEADER}")?;
                Some(file)
            }
            None => None,
        };
        Ok(Self {
            total: 0,
            kinds: BTreeMap::new(),
            listed: Vec::new(),
            of_kinds: BTreeSet::new(),
            of_shards: BTreeSet::new(),
            file,
            error: None,
        })
    }

    /// Takes what is found until nothing comes any more.
    pub async fn follow(&mut self, mut events: mpsc::Receiver<Event>, mut bar: Progress) {
        while let Some(finding) = next(&mut events, &mut bar).await {
            self.take(finding);
        }
    }

    fn take(&mut self, finding: Finding) {
        self.total += 1;
        *self.kinds.entry(finding.kind.name()).or_default() += 1;
        self.of_kinds.insert(finding.kind);
        self.of_shards.insert(finding.shard);
        if let Some(file) = &mut self.file
            && let Err(error) = writeln!(file, "{}", csv(&finding))
        {
            self.file = None;
            self.error = Some(error);
        }
        if self.listed.len() < LISTED_MAX {
            self.listed.push(finding);
        }
    }

    /// Nothing more comes: the file is whole, and what is listed is in order.
    pub fn end(&mut self) -> Result<()> {
        if let Some(mut file) = self.file.take()
            && let Err(error) = file.flush()
        {
            self.error = Some(error);
        }
        self.listed.sort_by_key(|it| {
            let balance = (it.account, it.asset, it.version);
            (
                it.shard,
                it.position.is_none(),
                balance,
                it.position,
                it.kind,
            )
        });
        match self.error.take() {
            Some(error) => Err(error).context("the file of differences cannot be written"),
            None => Ok(()),
        }
    }

    pub fn has(&self, is: impl Fn(Kind) -> bool) -> bool {
        self.of_kinds.iter().any(|kind| is(*kind))
    }

    /// Such as `shards 1, 2`.
    pub fn shards(&self) -> String {
        let noun = if self.of_shards.len() == 1 {
            "shard"
        } else {
            "shards"
        };
        let names: Vec<_> = self.of_shards.iter().map(ToString::to_string).collect();
        format!("{noun} {}", names.join(", "))
    }
}

/// A line without its end. What a table shows as `-` is empty here.
fn csv(finding: &Finding) -> String {
    let mut line = finding.kind.name().to_owned();
    let cells = [
        Some(finding.shard.to_string()),
        finding.account.map(|account| account.to_string()),
        finding.asset.map(|asset| asset.to_string()),
        finding.version.map(|version| version.to_string()),
        finding.position.map(|position| position.to_string()),
        finding.command.map(|command| command.to_string()),
        Some(finding.stored.clone()),
        Some(finding.expected.clone()),
    ];
    for cell in cells {
        let cell = cell.unwrap_or_default();
        let written = match cell.contains([',', '"', '\n', '\r']) {
            true => write!(line, ",\"{}\"", cell.replace('"', "\"\"")),
            false => write!(line, ",{cell}"),
        };
        written.expect("a String takes everything");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        let finding = Finding::new(Kind::Part, ShardId(3), "a \"b\", c", "d").account(7);
        assert_eq!(csv(&finding), "PART,3,7,,,,,\"a \"\"b\"\", c\",d");
    }
}
