//! What to do about each answer of an OTLP receiver.
//!
//! Owns the table of status codes and the waiting times; randomness is an argument of theirs. The table is the OTLP
//! specification's, with three deviations that keep data which the specification would drop, or never get out:
//!
//! * UNAUTHENTICATED and PERMISSION_DENIED pause the export: usually a token or certificate is being rotated.
//! * RESOURCE_EXHAUSTED without RetryInfo is taken for a refusal of the size (gRPC's receive limit answers so),
//!   and the request is made smaller.
//! * OUT_OF_RANGE that says that the message is too long (tonic's receive limit answers so) is one too: the specification
//!   has it sent again as it is, for ever.

use std::{
    error::Error as _,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use inferscope_proto::{
    Message as _,
    rpc::{self, RetryInfo},
};
use tonic::{Code, Status};

/// Longest wait that a receiver can ask for: it must not be able to switch the export off for good.
const MAX_REQUESTED_DELAY: Duration = Duration::from_secs(300);

/// What to do with a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it again, not before `after` if the receiver named a time.
    Retry {
        /// What RetryInfo asked for.
        after: Option<Duration>,
    },
    /// Keep it and wait long: the receiver does not accept who we are.
    Pause,
    /// Send it in smaller pieces.
    Shrink,
    /// Drop it: it will never be accepted.
    Refused,
}

/// What a receiver made with tonic says of a message beyond its limit.
const TOO_LONG: &str = "message length too large";

/// The verdict on `status`.
pub fn classify(status: &Status) -> Verdict {
    // A status that came over the wire has no source. One that has was made up here for a broken connection, and
    // its code says little: a keepalive timeout may read INTERNAL, a GOAWAY for too many pings RESOURCE_EXHAUSTED.
    if status.source().is_some() {
        return Verdict::Retry { after: None };
    }
    let after = retry_delay(status.details());
    match status.code() {
        Code::Unavailable => Verdict::Retry { after },
        Code::ResourceExhausted if after.is_some() => Verdict::Retry { after },
        Code::ResourceExhausted => Verdict::Shrink,
        Code::OutOfRange if status.message().contains(TOO_LONG) => Verdict::Shrink,
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::OutOfRange | Code::DataLoss => {
            Verdict::Retry { after: None }
        }
        Code::Unauthenticated | Code::PermissionDenied => Verdict::Pause,
        // OK is no failure; a client that is told so as an error has nothing to gain from another attempt.
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal => Verdict::Refused,
    }
}

/// The delay of the RetryInfo in `grpc-status-details-bin`; zero when it has none, absent without RetryInfo.
pub fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = rpc::Status::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.rsplit('/').next() == Some(RetryInfo::NAME))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    let nanos = u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999);
    Some(Duration::new(seconds, nanos).min(MAX_REQUESTED_DELAY))
}

/// Waiting times that double up to a limit, each cut by up to a half at random, so that many agents do not come
/// back to a restarted receiver in the same instant.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    /// The next wait: on top of `after`, if the receiver asked for it. `entropy` is any random number.
    pub fn next(&mut self, after: Option<Duration>, entropy: u64) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(30));
        self.attempts = self.attempts.saturating_add(1);
        after.unwrap_or_default().saturating_add(jittered(doubled.min(self.longest), entropy))
    }

    /// The longest wait.
    pub fn longest(&self, entropy: u64) -> Duration {
        jittered(self.longest, entropy)
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

fn jittered(wait: Duration, entropy: u64) -> Duration {
    wait / 2 + (wait / 2).mul_f64(entropy as f64 / u64::MAX as f64)
}

/// A random number. The standard library seeds its hash maps from the system's randomness, once a thread, and
/// counts on from there: enough to keep agents apart, which is all that is asked of it.
pub(in crate::export) fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a receiver sends to say "not before `delay`".
    pub(crate) fn retry_info(delay: Option<rpc::Duration>) -> Vec<u8> {
        let any = |type_url: &str, value| rpc::Any { type_url: type_url.to_owned(), value };
        let info = RetryInfo { retry_delay: delay }.encode_to_vec();
        let details = vec![
            any("type.googleapis.com/google.rpc.DebugInfo", vec![0xff]),
            any("type.googleapis.com/google.rpc.RetryInfo", info),
        ];
        rpc::Status { code: 8, message: "busy".to_owned(), details }.encode_to_vec()
    }

    fn status(code: Code, details: Vec<u8>) -> Status {
        Status::with_details(code, "", details.into())
    }

    #[test]
    fn the_table_of_status_codes() {
        let retry = Verdict::Retry { after: None };
        let table = [
            (Code::Ok, Verdict::Refused),
            (Code::Cancelled, retry),
            (Code::Unknown, Verdict::Refused),
            (Code::InvalidArgument, Verdict::Refused),
            (Code::DeadlineExceeded, retry),
            (Code::NotFound, Verdict::Refused),
            (Code::AlreadyExists, Verdict::Refused),
            (Code::PermissionDenied, Verdict::Pause),
            (Code::ResourceExhausted, Verdict::Shrink),
            (Code::FailedPrecondition, Verdict::Refused),
            (Code::Aborted, retry),
            (Code::OutOfRange, retry),
            (Code::Unimplemented, Verdict::Refused),
            (Code::Internal, Verdict::Refused),
            (Code::Unavailable, retry),
            (Code::DataLoss, retry),
            (Code::Unauthenticated, Verdict::Pause),
        ];
        for (code, expect) in table {
            assert_eq!(classify(&status(code, Vec::new())), expect, "{code:?}");
        }
    }

    #[test]
    fn retry_info_is_honoured_where_the_specification_says_so() {
        let details = retry_info(Some(rpc::Duration { seconds: 1, nanos: 500_000_000 }));
        let after = Some(Duration::from_millis(1500));
        assert_eq!(classify(&status(Code::ResourceExhausted, details.clone())), Verdict::Retry { after });
        assert_eq!(classify(&status(Code::Unavailable, details.clone())), Verdict::Retry { after });
        assert_eq!(classify(&status(Code::InvalidArgument, details)), Verdict::Refused);
    }

    #[test]
    fn delays_that_make_no_sense_do_no_harm() {
        let of = |seconds, nanos| retry_delay(&retry_info(Some(rpc::Duration { seconds, nanos })));
        assert_eq!(of(-5, -1), Some(Duration::ZERO));
        assert_eq!(of(i64::MAX, i32::MAX), Some(MAX_REQUESTED_DELAY));
        assert_eq!(retry_delay(&retry_info(None)), Some(Duration::ZERO));
        assert_eq!(retry_delay(b""), None);
        assert_eq!(retry_delay(b"\xff\xff"), None);
    }

    #[test]
    fn a_broken_connection_is_always_worth_another_attempt() {
        let mut status = Status::internal("keepalive");
        status.set_source(std::sync::Arc::new(std::io::Error::other("gone")));
        assert_eq!(classify(&status), Verdict::Retry { after: None });
    }

    #[test]
    fn waits_double_to_the_limit_and_vary_by_half() {
        let (second, limit) = (Duration::from_secs(1), Duration::from_secs(5));
        let mut backoff = Backoff::new(second, limit);
        let waits: Vec<_> = (0..40).map(|_| backoff.next(None, u64::MAX).as_millis()).collect();
        assert_eq!(waits[..4], [1000, 2000, 4000, 5000]);
        assert!(waits[4..].iter().all(|&wait| wait == 5000));
        assert_eq!(backoff.next(None, 0), limit / 2);
        assert_eq!(backoff.next(Some(limit), 0), limit + limit / 2);
        assert_eq!(backoff.longest(0), limit / 2);
        backoff.reset();
        assert_eq!(backoff.next(None, u64::MAX / 2).as_millis(), 750);
    }
}
