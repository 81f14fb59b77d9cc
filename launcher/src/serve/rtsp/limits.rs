//! How many connections there may be: in all, from one address, and before anybody
//! said who they are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections in all.
pub const MAX_CONNECTIONS: usize = 4096;
/// Connections from one address, behind which there may be many viewers.
pub const MAX_PER_ADDRESS: usize = 1024;
/// Of these, those that nobody was let in on yet.
pub const MAX_STRANGERS: usize = 256;

/// The count of connections.
#[derive(Default)]
pub struct Limits(Mutex<Table>);

#[derive(Default)]
struct Table {
    connections: usize,
    by_address: HashMap<IpAddr, Count>,
}

#[derive(Default)]
struct Count {
    connections: usize,
    strangers: usize,
}

/// The place of one connection; free again once it is dropped.
pub struct Place {
    limits: Arc<Limits>,
    address: IpAddr,
    stranger: bool,
}

impl Limits {
    /// A place for a connection from that address, if there is one.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut table = self.lock();
        if table.connections >= MAX_CONNECTIONS {
            return None;
        }
        let count = table.by_address.entry(address).or_default();
        if count.connections >= MAX_PER_ADDRESS || count.strangers >= MAX_STRANGERS {
            return None;
        }
        count.connections += 1;
        count.strangers += 1;
        table.connections += 1;
        drop(table);
        Some(Place {
            limits: self.clone(),
            address,
            stranger: true,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Somebody was let in.
    pub fn admitted(&mut self) {
        if std::mem::take(&mut self.stranger)
            && let Some(count) = self.limits.lock().by_address.get_mut(&self.address)
        {
            count.strangers -= 1;
        }
    }

    /// Whether nobody was let in yet.
    pub fn is_strangers(&self) -> bool {
        self.stranger
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admitted();
        let mut table = self.limits.lock();
        table.connections -= 1;
        if let Some(count) = table.by_address.get_mut(&self.address) {
            count.connections -= 1;
            if count.connections == 0 {
                table.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_kept_in_all_by_address_and_for_strangers() {
        let limits = Arc::new(Limits::default());
        let take = |last: u8| limits.take([192, 0, 2, last].into());
        let mut places: Vec<_> = (0..MAX_STRANGERS).map(|_| take(1).expect("room")).collect();
        assert!(take(1).is_none());
        assert!(
            limits
                .take("::ffff:192.0.2.1".parse().expect("it is one"))
                .is_none()
        );
        assert!(take(2).is_some());
        while places.len() < MAX_PER_ADDRESS {
            places.iter_mut().for_each(Place::admitted);
            places.push(take(1).expect("room"));
        }
        places.iter_mut().for_each(Place::admitted);
        assert!(take(1).is_none());
        places.pop();
        places.push(take(1).expect("one left"));
        for last in 2.. {
            places.iter_mut().for_each(Place::admitted);
            while let Some(place) = take(last) {
                places.push(place);
                places.iter_mut().rev().take(1).for_each(Place::admitted);
            }
            if places.len() == MAX_CONNECTIONS {
                break;
            }
        }
        assert!(take(200).is_none());
        drop(places);
        let table = limits.lock();
        assert_eq!((table.connections, table.by_address.len()), (0, 0));
    }
}
