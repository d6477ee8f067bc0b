use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::Size;

/// The one counter of memory: a limit, and what is reserved of it.
///
/// It has no policy. Whoever is about to allocate reserves first and keeps the [`Reservation`] for as long as the
/// bytes live. Clones share the account. The sum of all reservations never passes the limit.
#[derive(Clone, Debug)]
pub struct Account(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    limit: u64,
    used: AtomicU64,
}

/// Bytes held on an [`Account`], given back on drop.
#[derive(Debug)]
pub struct Reservation {
    account: Account,
    bytes: u64,
}

/// A reservation that would pass the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} of memory are needed and {} of the budget of {} are free",
    Size(*asked), Size(*free), Size(*limit)
)]
pub struct OverBudget {
    /// How many bytes were asked for.
    pub asked: u64,
    /// How many bytes the account had left.
    pub free: u64,
    /// The limit of the account in bytes.
    pub limit: u64,
}

impl Account {
    /// Opens an account of `limit` bytes with nothing reserved.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Counter { limit, used: AtomicU64::new(0) }))
    }

    /// Opens an account that never refuses.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Reserves `bytes`, all or nothing.
    ///
    /// # Errors
    /// [`OverBudget`] if fewer bytes are free; nothing is reserved then.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, OverBudget> {
        let grow = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.0.limit);
        match self.0.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, grow) {
            Ok(_) => Ok(Reservation { account: self.clone(), bytes }),
            Err(used) => Err(OverBudget { asked: bytes, free: self.0.limit - used, limit: self.0.limit }),
        }
    }

    /// Returns the limit in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit
    }

    /// Returns how many bytes are reserved.
    pub fn used_bytes(&self) -> u64 {
        self.0.used.load(Ordering::Acquire)
    }

    /// Returns how many bytes can still be reserved.
    pub fn free_bytes(&self) -> u64 {
        self.0.limit - self.used_bytes()
    }
}

impl OverBudget {
    /// Tells whether the account could never hold this much, whatever else gives its memory back.
    pub fn is_hopeless(&self) -> bool {
        self.asked > self.limit
    }
}

impl Reservation {
    /// Returns how many bytes this reservation holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.0.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_numbers_and_reserves_nothing() {
        let account = Account::new(100);
        let held = account.reserve(70).unwrap();
        assert_eq!(account.reserve(31).unwrap_err(), OverBudget { asked: 31, free: 30, limit: 100 });
        assert_eq!(account.used_bytes(), held.bytes());
    }

    #[test]
    fn an_absurd_request_does_not_wrap_around() {
        let account = Account::unlimited();
        let _held = account.reserve(10).unwrap();
        assert!(account.reserve(u64::MAX).is_err());
    }

    #[test]
    fn threads_never_pass_the_limit_together() {
        let account = Account::new(1_000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let held = account.reserve(300);
                        assert!(account.used_bytes() <= 1_000);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(account.used_bytes(), 0);
    }
}
