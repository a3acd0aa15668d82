//! Named checks of a process. Services register them; the admin port and gRPC health read them.
//!
//! A check answers from memory at once: who must ask a server does so in [`Health::poll`].

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde::Serialize;
use tokio::sync::watch;

/// A polled check that takes longer has failed.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);

/// What a check says: fine with a detail, or what is wrong and what to do.
pub type Finding = Result<String, String>;

type Check = Box<dyn Fn() -> Finding + Send + Sync>;

/// The checks of this process. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    checks: Mutex<BTreeMap<(Kind, &'static str), Check>>,
    draining: watch::Sender<bool>,
}

/// What a failing check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The process is beyond help and wants to be started again.
    Live,
    /// No work should be sent to it now.
    Ready,
}

/// Sets the finding of one check from elsewhere.
#[derive(Clone)]
pub struct Reporter(Arc<watch::Sender<Finding>>);

/// All checks of one kind at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// None of the checks fails (and, for readiness, the process does not drain).
    pub ok: bool,
    /// The process hands its work over and ends.
    pub draining: bool,
    /// By name.
    pub checks: BTreeMap<&'static str, CheckReport>,
}

/// One check at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// It does not fail.
    pub ok: bool,
    /// What it found.
    pub detail: String,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                checks: Mutex::new(BTreeMap::new()),
                draining: watch::Sender::new(false),
            }),
        }
    }
}

impl Health {
    /// Adds (or replaces) a readiness check.
    pub fn ready(&self, name: &'static str, check: impl Fn() -> Finding + Send + Sync + 'static) {
        self.checks().insert((Kind::Ready, name), Box::new(check));
    }

    /// Adds (or replaces) a liveness check: it must not look at other servers.
    pub fn live(&self, name: &'static str, check: impl Fn() -> Finding + Send + Sync + 'static) {
        self.checks().insert((Kind::Live, name), Box::new(check));
    }

    /// Adds a readiness check that is set from elsewhere; it fails as `starting` until then.
    pub fn reported(&self, name: &'static str) -> Reporter {
        let (sender, receiver) = watch::channel(Err("starting".to_owned()));
        self.ready(name, move || receiver.borrow().clone());
        Reporter(Arc::new(sender))
    }

    /// Adds a readiness check that asks every `interval`, for as long as the task runs.
    pub fn poll<F>(
        &self,
        name: &'static str,
        interval: Duration,
        ask: impl Fn() -> F + Send + 'static,
    ) -> tokio::task::JoinHandle<()>
    where
        F: Future<Output = Finding> + Send,
    {
        let reporter = self.reported(name);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            loop {
                ticks.tick().await;
                reporter.set(answer_within(POLL_TIMEOUT, ask()).await);
            }
        })
    }

    /// From now on the process is not ready.
    pub fn drain(&self) {
        self.inner.draining.send_replace(true);
    }

    /// Turns true when draining begins.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.inner.draining.subscribe()
    }

    /// Whether work should be sent to this process.
    pub fn readiness(&self) -> Report {
        self.report(Kind::Ready)
    }

    /// Whether this process should go on at all.
    pub fn liveness(&self) -> Report {
        self.report(Kind::Live)
    }

    fn report(&self, kind: Kind) -> Report {
        let draining = *self.inner.draining.borrow();
        let mut ok = kind == Kind::Live || !draining;
        let mut reports = BTreeMap::new();
        for ((_, name), check) in self.checks().iter().filter(|((of, _), _)| *of == kind) {
            let finding = check();
            ok &= finding.is_ok();
            let report = CheckReport {
                ok: finding.is_ok(),
                detail: finding.unwrap_or_else(|problem| problem),
            };
            reports.insert(*name, report);
        }
        Report {
            ok,
            draining,
            checks: reports,
        }
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<(Kind, &'static str), Check>> {
        self.inner
            .checks
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

async fn answer_within(limit: Duration, ask: impl Future<Output = Finding>) -> Finding {
    match tokio::time::timeout(limit, ask).await {
        Ok(finding) => finding,
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

impl Reporter {
    /// What the check says from now on.
    pub fn set(&self, finding: Finding) {
        let _previous = self.0.send_replace(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_check_is_fine_and_nothing_drains() {
        let health = Health::default();
        assert!(health.readiness().ok, "no check fails");
        let reporter = health.reported("store");
        assert!(!health.readiness().ok, "starting");
        reporter.set(Ok("0.2 ms".into()));
        assert!(health.readiness().ok);
        reporter.set(Err("away".into()));
        let report = health.readiness();
        assert!(!report.ok && report.checks["store"].detail == "away");
        assert!(health.liveness().ok, "liveness looks at no server");
        reporter.set(Ok(String::new()));
        health.drain();
        let report = health.readiness();
        assert!(!report.ok && report.draining && report.checks["store"].ok);
        assert!(health.liveness().ok);
        health.live("leader", || Err("shard 3 was taken over".into()));
        assert!(!health.liveness().ok);
    }

    #[tokio::test]
    async fn a_poll_that_hangs_is_a_failed_check() {
        let finding = answer_within(Duration::from_millis(1), std::future::pending()).await;
        assert_eq!(finding, Err("no answer within 1ms".into()));
    }
}
