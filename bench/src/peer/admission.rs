//! Limits the connections with an incomplete handshake, and the wrong proofs, of each address. Clients without the token can
//! neither block a client that has the token nor guess tokens without limit.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Maximum number of connections with an incomplete handshake, of all addresses.
const MOST: usize = 16;
/// Maximum number of connections of one address with an incomplete handshake or a recent wrong proof.
const MOST_PER_ADDRESS: usize = 4;
/// Time for which a wrong proof counts towards the limit of its address. With 4 wrong proofs in 2 seconds, an address can guess
/// twice per second.
const WRONG_PROOF_TIME: Duration = Duration::from_secs(2);
/// Maximum number of remembered wrong proofs. A further one replaces the oldest.
const MOST_WRONG_PROOFS: usize = 1024;

/// Connections with an incomplete handshake, oldest first, and recent wrong proofs. `T` is the handle with which the caller
/// closes a connection.
#[derive(Debug)]
pub(super) struct Admission<T> {
    waiting: VecDeque<Waiting<T>>,
    wrong_proofs: VecDeque<(Address, Instant)>,
    next: Ticket,
}

/// Number of an admitted connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
struct Waiting<T> {
    ticket: Ticket,
    address: Address,
    connection: T,
}

/// The part of an IP address that one party controls: all of an IPv4 address, and the network (64 bits) of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Address(IpAddr);

impl Address {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()),
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

impl<T> Default for Admission<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), wrong_proofs: VecDeque::new(), next: Ticket::default() }
    }
}

impl<T> Admission<T> {
    /// Admits a connection. If its address or the server has reached its limit, removes the oldest connection of the address or
    /// of the server and returns it. The caller has to close it.
    ///
    /// The oldest connection is removed because a client that knows the token completes its handshake in less than a second,
    /// while other connections can stay incomplete for long.
    ///
    /// # Errors
    /// The recent wrong proofs of the address have reached the limit. Returns the connection.
    pub(super) fn admit(&mut self, from: IpAddr, connection: T, now: Instant) -> Result<(Ticket, Option<T>), T> {
        self.wrong_proofs.retain(|(_, until)| now < *until);
        let address = Address::of(from);
        let wrong_proofs = self.wrong_proofs.iter().filter(|(of, _)| *of == address).count();
        if wrong_proofs >= MOST_PER_ADDRESS {
            return Err(connection);
        }
        let own = self.waiting.iter().filter(|waiting| waiting.address == address).count();
        let displaced = if own + wrong_proofs >= MOST_PER_ADDRESS {
            let oldest = self.waiting.iter().position(|waiting| waiting.address == address);
            oldest.and_then(|oldest| self.waiting.remove(oldest))
        } else if self.waiting.len() >= MOST {
            self.waiting.pop_front()
        } else {
            None
        };
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        self.waiting.push_back(Waiting { ticket, address, connection });
        Ok((ticket, displaced.map(|waiting| waiting.connection)))
    }

    /// Ends the handshake of a connection. Returns the connection, unless a newer one displaced it.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let at = self.waiting.iter().position(|waiting| waiting.ticket == ticket)?;
        self.waiting.remove(at).map(|waiting| waiting.connection)
    }

    /// Records a wrong proof, which counts towards the limit of its address for [`WRONG_PROOF_TIME`].
    pub(super) fn wrong_proof(&mut self, from: IpAddr, now: Instant) {
        if self.wrong_proofs.len() >= MOST_WRONG_PROOFS {
            self.wrong_proofs.pop_front();
        }
        self.wrong_proofs.push_back((Address::of(from), now + WRONG_PROOF_TIME));
    }

    /// All connections with an incomplete handshake.
    pub(super) fn connections(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|waiting| &waiting.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn admit(admission: &mut Admission<u32>, from: &str, name: u32, now: Instant) -> Result<Option<u32>, u32> {
        admission.admit(ip(from), name, now).map(|(_, displaced)| displaced)
    }

    #[test]
    fn an_idle_address_displaces_only_its_own_connections() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        assert_eq!(admit(&mut admission, "192.0.2.1", 100, now), Ok(None));
        for idle in 0..4 {
            assert_eq!(admit(&mut admission, "192.0.2.7", idle, now), Ok(None));
        }
        for idle in 4..200 {
            assert_eq!(admit(&mut admission, "192.0.2.7", idle, now), Ok(Some(idle - 4)));
        }
        assert_eq!(admission.connections().count(), 5);
        assert!(admission.connections().any(|name| *name == 100));
    }

    #[test]
    fn a_new_connection_displaces_the_oldest_idle_one() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        for idle in 0..100 {
            admission.admit(ip(&format!("192.0.2.{idle}")), idle, now).unwrap();
        }
        let (ticket, displaced) = admission.admit(ip("198.51.100.1"), 1000, now).unwrap();
        assert_eq!(displaced, Some(84), "the oldest of the 16");
        assert_eq!(admission.leave(ticket), Some(1000));
        assert_eq!(admission.leave(ticket), None, "the connection has left already");
    }

    #[test]
    fn wrong_proofs_limit_only_their_address_and_expire() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        for _ in 0..4 {
            let (ticket, _) = admission.admit(ip("192.0.2.7"), 1, now).unwrap();
            admission.leave(ticket);
            admission.wrong_proof(ip("192.0.2.7"), now);
        }
        assert_eq!(admit(&mut admission, "192.0.2.7", 2, now), Err(2));
        assert_eq!(admit(&mut admission, "::ffff:192.0.2.7", 2, now), Err(2), "the same address, mapped");
        assert_eq!(admit(&mut admission, "192.0.2.8", 3, now), Ok(None));
        assert_eq!(admit(&mut admission, "192.0.2.7", 4, now + WRONG_PROOF_TIME), Ok(None));
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_one_limit() {
        let (mut admission, now) = (Admission::default(), Instant::now());
        for host in 0..5 {
            let displaced = admit(&mut admission, &format!("2001:db8::{host}"), host, now).unwrap();
            assert_eq!(displaced, (host == 4).then_some(0));
        }
        assert_eq!(admit(&mut admission, "2001:db8:0:1::1", 9, now), Ok(None));
    }

    proptest! {
        #[test]
        fn the_number_of_connections_and_of_wrong_proofs_is_limited(
            steps in proptest::collection::vec((any::<u8>(), 0..3_u8, 0..50_u64), 0..2000)
        ) {
            let (mut admission, mut now) = (Admission::default(), Instant::now());
            for (host, step, milliseconds) in steps {
                now += Duration::from_millis(milliseconds);
                let from = ip(&format!("192.0.2.{}", host % 40));
                if step == 0 {
                    admission.wrong_proof(from, now);
                } else if let Ok((ticket, _)) = admission.admit(from, (), now)
                    && step == 1
                {
                    prop_assert!(admission.leave(ticket).is_some(), "a new connection is admitted");
                }
                prop_assert!(admission.waiting.len() <= MOST && admission.wrong_proofs.len() <= MOST_WRONG_PROOFS);
                let own = admission.waiting.iter().filter(|waiting| waiting.address == Address::of(from)).count();
                prop_assert!(own <= MOST_PER_ADDRESS);
            }
        }
    }
}
