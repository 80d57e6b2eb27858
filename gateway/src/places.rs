//! Places for connections: so many on each listener, and of those so many for one host.
//!
//! Each listener has its own, so that whoever fills one leaves the others to their callers.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One host takes at most this part of a listener's places.
const PART_OF_ONE_HOST: usize = 8;

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    hosts: Arc<Hosts>,
}

/// What hosts have taken.
#[derive(Debug)]
struct Hosts {
    most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of_host: Option<(Arc<Hosts>, IpAddr)>,
    _one: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(connections_max: usize) -> Self {
        let hosts = Hosts {
            most: (connections_max / PART_OF_ONE_HOST).max(1),
            taken: Mutex::default(),
        };
        Self {
            all: Arc::new(Semaphore::new(connections_max)),
            hosts: Arc::new(hosts),
        }
    }

    /// Waits for a place, whoever is to come.
    pub(crate) async fn free(&self) -> Option<Place> {
        let one = self.all.clone().acquire_owned().await.ok()?;
        Some(Place {
            of_host: None,
            _one: one,
        })
    }

    /// Counts a place for who came; `None` when his host has as many as it gets. This host is not counted.
    pub(crate) fn of(&self, mut place: Place, address: Option<IpAddr>) -> Option<Place> {
        let address = address.map(|address| address.to_canonical());
        if let Some(address) = address.filter(|address| !address.is_loopback()) {
            let mut taken = self.hosts.lock();
            let count = taken.entry(address).or_default();
            if *count >= self.hosts.most {
                return None;
            }
            *count += 1;
            place.of_host = Some((self.hosts.clone(), address));
        }
        Some(place)
    }
}

impl Hosts {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((hosts, address)) = &self.of_host else {
            return;
        };
        let mut taken = hosts.lock();
        if let Some(count) = taken.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(places: &Places, address: Option<&str>) -> Option<Place> {
        let place = places.free().await.unwrap();
        places.of(place, address.map(|text| text.parse().unwrap()))
    }

    #[tokio::test]
    async fn one_host_does_not_take_all_of_them() {
        let places = Places::new(16);
        let one = take(&places, Some("192.0.2.1")).await.unwrap();
        let _two = take(&places, Some("::ffff:192.0.2.1")).await.unwrap();
        assert!(take(&places, Some("192.0.2.1")).await.is_none());
        let _other = take(&places, Some("192.0.2.2")).await.unwrap();
        // What was refused holds nothing, what ended neither.
        assert_eq!(places.all.available_permits(), 13);
        drop(one);
        let _again = take(&places, Some("192.0.2.1")).await.unwrap();
        assert!(take(&places, Some("192.0.2.1")).await.is_none());
    }

    #[tokio::test]
    async fn this_host_is_not_counted_and_hosts_that_left_are_forgotten() {
        let places = Places::new(4);
        for address in [None, Some("127.0.0.1"), Some("::1")] {
            let held = [take(&places, address).await, take(&places, address).await];
            assert!(held.iter().all(Option::is_some), "{address:?}");
        }
        // However few there are, each host gets one.
        let one = take(&places, Some("2001:db8::1")).await.unwrap();
        assert!(take(&places, Some("2001:db8::1")).await.is_none());
        drop(one);
        assert!(places.hosts.lock().is_empty());
    }
}
