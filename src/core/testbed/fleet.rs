//! All services of a run. Each has a lock: who holds it decides whether its process runs.

use std::{
    sync::{
        Arc, Mutex as Plain,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    Error,
    processes::{Program, Role, Service},
};

/// A service that was told to stop is killed after this.
pub const STOP_MAX: Duration = Duration::from_secs(10);

/// How many of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// `serve-grpc`.
    pub servers: usize,
    /// `consume`.
    pub consumers: usize,
    /// `cron-outbox`.
    pub outboxes: usize,
}

/// The services of a run.
pub struct Fleet {
    services: Vec<Arc<Mutex<Service>>>,
    /// Names, by number; they never change.
    names: Vec<String>,
    roles: Vec<Role>,
    /// Addresses of the API.
    pub servers: Vec<String>,
    /// What ended although nobody told it to.
    deaths: Plain<Vec<String>>,
    starts: AtomicU64,
}

impl Fleet {
    /// Starts all of them, and waits until they are ready.
    pub async fn start(size: Size, program: &Program) -> Result<Self, Error> {
        let roles = [
            (Role::Consume, size.consumers),
            (Role::CronOutbox, size.outboxes),
            (Role::ServeGrpc, size.servers),
        ];
        let mut services = Vec::new();
        for (role, count) in roles {
            for number in 0..count {
                services.push(Service::new(role, number, program.clone())?);
            }
        }
        let fleet = Self {
            names: services.iter().map(|it| it.name.clone()).collect(),
            roles: services.iter().map(|it| it.role).collect(),
            servers: services
                .iter()
                .filter(|it| it.role == Role::ServeGrpc)
                .map(|it| format!("http://{}", it.grpc))
                .collect(),
            services: services
                .into_iter()
                .map(|it| Arc::new(Mutex::new(it)))
                .collect(),
            deaths: Plain::default(),
            starts: AtomicU64::new(0),
        };
        fleet.all_up().await?;
        Ok(fleet)
    }

    /// How many services there are.
    pub fn size(&self) -> usize {
        self.services.len()
    }

    /// Of a service.
    pub fn role(&self, number: usize) -> Role {
        self.roles[number]
    }

    /// How many of a kind there are.
    pub fn count(&self, role: Role) -> usize {
        self.roles.iter().filter(|it| **it == role).count()
    }

    /// Of a service.
    pub fn name(&self, number: usize) -> &str {
        &self.names[number]
    }

    /// The service with this number, unless somebody has it.
    pub fn try_take(&self, number: usize) -> Option<OwnedMutexGuard<Service>> {
        Arc::clone(&self.services[number]).try_lock_owned().ok()
    }

    /// The service with this number, once nobody else has it.
    pub async fn take(&self, number: usize) -> OwnedMutexGuard<Service> {
        Arc::clone(&self.services[number]).lock_owned().await
    }

    /// Starts a service that somebody killed, and waits until it is ready.
    pub async fn bring_up(&self, service: &mut Service) -> Result<(), Error> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        service.bring_up().await
    }

    /// Starts again what does not run, and waits until everything is ready.
    pub async fn all_up(&self) -> Result<(), Error> {
        let starts = self.services.iter().map(|service| async move {
            let mut service = service.lock().await;
            self.note_death(&mut service)?;
            service.bring_up().await
        });
        futures::future::try_join_all(starts).await.map(|_| ())
    }

    /// Looks whether something ended by itself, and starts that again.
    pub async fn look(&self) -> Result<(), Error> {
        for number in 0..self.size() {
            if let Some(mut service) = self.try_take(number)
                && self.note_death(&mut service)?
            {
                self.bring_up(&mut service).await?;
            }
        }
        Ok(())
    }

    /// What ended although nobody told it to.
    pub fn deaths(&self) -> Vec<String> {
        self.deaths.lock().expect("no holder panics").clone()
    }

    /// Memory of each service in KiB that runs, by number.
    pub async fn resident_kib(&self) -> Vec<Option<u64>> {
        let mut resident = Vec::new();
        for service in &self.services {
            let service = service.try_lock();
            resident.push(service.ok().and_then(|service| service.resident_kib()));
        }
        resident
    }

    /// Stops all of them in order; how long the slowest took.
    pub async fn stop(&self) -> Result<Duration, Error> {
        let started = Instant::now();
        let stops = self.services.iter().map(|service| async move {
            let mut service = service.lock().await;
            self.note_death(&mut service)?;
            service.terminate(STOP_MAX).await
        });
        futures::future::try_join_all(stops).await?;
        Ok(started.elapsed())
    }

    /// How many lines of all logs hold each of these texts.
    pub async fn count_in_logs(&self, texts: &[&[&str]]) -> Vec<u64> {
        let mut counts = vec![0; texts.len()];
        for service in &self.services {
            let log = service.lock().await.log();
            let Ok(file) = std::fs::File::open(log) else {
                continue;
            };
            for line in std::io::BufRead::lines(std::io::BufReader::new(file)) {
                let Ok(line) = line else { continue };
                for (count, words) in counts.iter_mut().zip(texts) {
                    *count += u64::from(words.iter().all(|word| line.contains(word)));
                }
            }
        }
        counts
    }

    fn note_death(&self, service: &mut Service) -> Result<bool, Error> {
        let Some(how) = service.ended_by_itself()? else {
            return Ok(false);
        };
        tracing::warn!("{how}");
        self.deaths.lock().expect("no holder panics").push(how);
        Ok(true)
    }
}
