//! Writes the stream of testdata/demo.commands.jsonl, or that of another seed:
//! `cargo run --example workload -- [SEED [USERS [TRADES]]]`.

use std::io::Write;

use axs::core::workload::{DEMO, Options, lines};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let options = Options {
        seed: next(DEMO.seed)?,
        users: next(DEMO.users.into())?.try_into()?,
        trades: next(DEMO.trades.into())?.try_into()?,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in lines(&options) {
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(())
}
