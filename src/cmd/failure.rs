//! Exit codes, and the error that carries one to the end of the process.

use std::{fmt, process::ExitCode};

use axs::core::{
    log,
    shards::{rebase, recover},
    store, submit, testbed,
};

/// Shown by `axs --help`; the README has the same table.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failure
    2  usage: the arguments are wrong
    3  a difference was found
    4  what was asked for does not exist
    5  a server it depends on is not available
    6  the settings are wrong
    7  it would change something: give --yes
   10  unhealthy
  130  interrupted

Settings come from flags, then AXS_SECTION__KEY variables, then --config or ./axs.toml, then
defaults: `axs config show --origin`.";

/// Why the process ends; the numbers are API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Failure = 1,
    Usage = 2,
    Difference = 3,
    NotFound = 4,
    Unavailable = 5,
    Configuration = 6,
    NeedsYes = 7,
    Unhealthy = 10,
    Interrupted = 130,
}

impl Exit {
    /// As errors under `--json` name it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Failure => "FAILURE",
            Self::Usage => "USAGE",
            Self::Difference => "DIFFERENCE",
            Self::NotFound => "NOT_FOUND",
            Self::Unavailable => "UNAVAILABLE",
            Self::Configuration => "CONFIGURATION",
            Self::NeedsYes => "NEEDS_YES",
            Self::Unhealthy => "UNHEALTHY",
            Self::Interrupted => "INTERRUPTED",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What the operator is told when a command does not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// One sentence, lower case.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The same call may succeed later.
    pub retryable: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
            retryable: exit == Exit::Unavailable,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn configuration(error: &dyn fmt::Display) -> Self {
        Self::new(Exit::Configuration, error.to_string())
            .hint("`axs config show --origin` tells where each value comes from")
    }

    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    pub fn usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        Self::new(Exit::Usage, message).hint("`--help` lists what may be given")
    }

    /// Of any error that reached the end: the first failure in its chain, else by its type.
    pub fn of(error: &anyhow::Error) -> Self {
        if let Some(failure) = error.downcast_ref::<Self>() {
            let mut failure = failure.clone();
            failure.message = format!("{error:#}");
            return failure;
        }
        let of_store = error.downcast_ref::<store::Error>().map(exit_of_store);
        let of_log = error.downcast_ref::<log::Error>().map(exit_of_log);
        let of_testbed = error.downcast_ref::<testbed::Error>().map(exit_of_testbed);
        let of_rebase = error.downcast_ref::<rebase::Error>().map(exit_of_rebase);
        let of_recover = error.downcast_ref::<recover::Error>().map(exit_of_recover);
        let text = format!("{error:#}");
        // Some errors of the core bring their advice along.
        let (message, hint) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        let exit = of_store
            .or(of_log)
            .or(of_testbed)
            .or(of_rebase)
            .or(of_recover);
        let mut failure = Self::new(exit.unwrap_or(Exit::Failure), message);
        failure.hint = hint;
        failure
    }
}

fn exit_of_store(error: &store::Error) -> Exit {
    match error {
        store::Error::Unavailable(_) | store::Error::AnswerLost(_) => Exit::Unavailable,
        store::Error::Mismatch(_) => Exit::Configuration,
        _ => Exit::Failure,
    }
}

fn exit_of_log(error: &log::Error) -> Exit {
    match error {
        log::Error::Unavailable(_) => Exit::Unavailable,
        log::Error::Refused(_) => Exit::Configuration,
        _ => Exit::Failure,
    }
}

fn exit_of_testbed(error: &testbed::Error) -> Exit {
    match error {
        testbed::Error::Store(error) => exit_of_store(error),
        testbed::Error::Log(error) => exit_of_log(error),
        testbed::Error::Cache(_) | testbed::Error::Unavailable(_) => Exit::Unavailable,
        testbed::Error::Interrupted => Exit::Interrupted,
        testbed::Error::Failed(_) => Exit::Failure,
    }
}

fn exit_of_rebase(error: &rebase::Error) -> Exit {
    match error {
        rebase::Error::Store(error) => exit_of_store(error),
        rebase::Error::Log(error) => exit_of_log(error),
        rebase::Error::OneByOne(_) => Exit::Usage,
        rebase::Error::NoGeneration(_) => Exit::Failure,
    }
}

fn exit_of_recover(error: &recover::Error) -> Exit {
    match error {
        recover::Error::Store(error) => exit_of_store(error),
        recover::Error::Log(error) => exit_of_log(error),
        recover::Error::Cache(_) => Exit::Unavailable,
    }
}

impl From<submit::Error> for Failure {
    fn from(error: submit::Error) -> Self {
        let message = error.to_string();
        match error {
            submit::Error::NoServer { .. } => Self::new(Exit::Unavailable, message)
                .hint("start one with `axs dev`, or name it with --server http://host:port"),
            submit::Error::Refused { .. } | submit::Error::Input(_) => {
                Self::new(Exit::Failure, message)
            }
        }
    }
}
