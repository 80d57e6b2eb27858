//! How much callers may ask for: so many requests each second for each of them, so many at once for all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{config::LimitsConfig, problem::Problem};

/// Callers that are kept in mind; beyond, those that have rested are forgotten.
const CALLERS_MAX: usize = 4096;

/// How often it is written down that a caller asks too much.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The bounds of one gateway.
#[derive(Debug)]
pub(crate) struct Bounds {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
    at_once: Arc<Semaphore>,
}

/// What a caller has left.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
    /// When it was last written down that he asks too much.
    told: Option<Instant>,
}

impl Bounds {
    pub(crate) fn new(limits: &LimitsConfig) -> Self {
        Self {
            per_second: limits.requests_per_second_max.into(),
            burst: limits.requests_burst_max.into(),
            buckets: Mutex::default(),
            at_once: Arc::new(Semaphore::new(limits.requests_at_once_max)),
        }
    }

    /// Counts a request of a caller.
    pub(crate) fn count(&self, caller: &str, now: Instant) -> Result<(), Problem> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= CALLERS_MAX && !buckets.contains_key(caller) {
            buckets.retain(|_, bucket| self.refilled(bucket, now) < self.burst);
            if buckets.len() >= CALLERS_MAX {
                return Err(too_many("too many callers at once", 1.0));
            }
        }
        let bucket = buckets.entry(caller.to_owned()).or_insert(Bucket {
            left: self.burst,
            at: now,
            told: None,
        });
        let left = self.refilled(bucket, now);
        *bucket = Bucket {
            left,
            at: now,
            ..*bucket
        };
        if left < 1.0 {
            let wait = (1.0 - left) / self.per_second;
            return Err(too_many("too many requests of one caller", wait));
        }
        bucket.left = left - 1.0;
        Ok(())
    }

    /// Whether it is to be written down that a caller asked too much: once a minute, and not for those who are not kept in mind.
    pub(crate) fn is_to_be_told(&self, caller: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = buckets.get_mut(caller) else {
            return false;
        };
        let is_told = bucket
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < TOLD_EVERY);
        if !is_told {
            bucket.told = Some(now);
        }
        !is_told
    }

    fn refilled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + since * self.per_second).min(self.burst)
    }

    /// A place among the requests at work.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.at_once.clone().try_acquire_owned().map_err(|_| {
            let message = "too many requests are at work (`limits.requestsAtOnceMax`); ask again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(1)
        })
    }
}

fn too_many(what: &str, wait_seconds: f64) -> Problem {
    let message = format!("{what} (`limits.requestsPerSecondMax`); ask again later");
    let wait = Duration::from_secs_f64(wait_seconds.clamp(0.0, 3600.0)).as_secs() + 1;
    Problem::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds::new(&LimitsConfig {
            requests_per_second_max: 2,
            requests_burst_max: 3,
            requests_at_once_max: 1,
            ..Default::default()
        })
    }

    #[test]
    fn a_burst_then_a_steady_rate_for_each_caller() {
        let (bounds, start) = (bounds(), Instant::now());
        for _ in 0..3 {
            bounds.count("a", start).unwrap();
        }
        let problem = bounds.count("a", start).unwrap_err();
        assert_eq!(problem.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(problem.retry_after_seconds, Some(1));
        bounds.count("b", start).unwrap();
        let later = start + Duration::from_millis(500);
        bounds.count("a", later).unwrap();
        bounds.count("a", later).unwrap_err();
        let much_later = start + Duration::from_secs(60);
        for _ in 0..3 {
            bounds.count("a", much_later).unwrap();
        }
        bounds.count("a", much_later).unwrap_err();
    }

    #[test]
    fn asking_too_much_is_told_once_a_minute_for_each_caller() {
        let (bounds, start) = (bounds(), Instant::now());
        bounds.count("a", start).unwrap();
        bounds.count("b", start).unwrap();
        assert!(bounds.is_to_be_told("a", start));
        bounds.count("a", start).unwrap();
        assert!(!bounds.is_to_be_told("a", start));
        assert!(bounds.is_to_be_told("b", start));
        let soon = start + Duration::from_secs(59);
        assert!(!bounds.is_to_be_told("a", soon));
        let later = start + Duration::from_secs(60);
        assert!(bounds.is_to_be_told("a", later));
        assert!(!bounds.is_to_be_told("a", later));
        assert!(!bounds.is_to_be_told("nobody", start));
    }

    #[test]
    fn callers_without_number_do_not_fill_the_memory() {
        let (bounds, start) = (bounds(), Instant::now());
        for n in 0..CALLERS_MAX {
            bounds.count(&n.to_string(), start).unwrap();
        }
        bounds.count("another", start).unwrap_err();
        bounds.count("0", start).unwrap();
        let later = start + Duration::from_secs(2);
        bounds.count("another", later).unwrap();
        assert!(bounds.buckets.lock().unwrap().len() < CALLERS_MAX);
    }

    #[test]
    fn so_many_at_once() {
        let bounds = bounds();
        let first = bounds.enter().unwrap();
        let problem = bounds.enter().unwrap_err();
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        drop(bounds.enter().unwrap());
    }
}
