//! Parses the command line, starts logs and the runtime, dispatches, maps the error to an exit code.

use std::process::ExitCode;

use cmd::{Ctx, Failure, ui::Ui};

mod cmd;

/// A batch is tens of thousands of small pieces, made by one thread and freed by another: the
/// system's allocator takes half of the time of a leader for that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match cmd::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let ui = Ui::new(&cli.global);
    let answer = cmd::start_logs(&cli, &ui).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("axs")
            .build()?;
        let ctx = Ctx::new(cli.global, ui.clone());
        let answer = runtime.block_on(cmd::run(cli.command, ctx));
        // A thread may hang in a read of stdin; nothing that matters is left to do.
        runtime.shutdown_background();
        answer
    });
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = Failure::of(&error);
            ui.failure(&failure);
            failure.exit.into()
        }
    }
}
