//! Two hundred calls, each cut off at every byte: there is one call as soon as its request has proven it, and how it ended
//! is said as it was.

use inferscope::{
    call::{Capture, Completion, FinishedCall, Side},
    record::Direction,
};
use inferscope_testing::{
    End, Host,
    calls::{Call, Transport},
    wire::http1::Framing,
};

/// What follows the last byte that is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    ClientCloses,
    ServerCloses,
    /// The rest of the response passes and no record tells it; then the server closes.
    Loss,
    Silence,
    Shutdown,
}

/// What one end's process is seen to do up to the cut, and the calls that come of it.
fn run(call: &Call, cut: usize, after: After, side: Side) -> Vec<FinishedCall> {
    let mut host = Host::default();
    let mut end = End::new(0xa, 1);
    let (asks, answers) = match side {
        Side::Client => (Direction::Write, Direction::Read),
        Side::Server => (Direction::Read, Direction::Write),
    };
    let (asked, answered) = (cut.min(call.request.len()), cut.saturating_sub(call.request.len()));
    host.bytes(&mut end, asks, &call.request[..asked]);
    host.bytes(&mut end, answers, &call.response[..answered]);
    match after {
        After::ClientCloses => host.close(&end, side == Side::Client),
        After::ServerCloses => host.close(&end, side == Side::Server),
        After::Loss => {
            host.lost(&mut end, answers, (call.response.len() - answered) as u32);
            host.close(&end, side == Side::Server);
        }
        After::Silence => host.silence(),
        After::Shutdown => host.finish(),
    }
    host.stats();
    host.calls
}

/// What a cut inside the answer must be taken for.
fn unfinished(after: After) -> Option<Completion> {
    match after {
        After::ClientCloses => Some(Completion::ClientClosed),
        After::ServerCloses => Some(Completion::ServerClosed),
        After::Silence => Some(Completion::Idle),
        After::Loss | After::Shutdown => None,
    }
}

/// Checks one cut, and gives how the call ended, if there was one.
fn check(call: &Call, cut: usize, after: After, side: Side) -> Option<Option<Completion>> {
    let mut calls = run(call, cut, after, side);
    let context = || {
        format!("{}, cut at {cut} of {} + {}, {after:?}, {side:?}", call.name, call.request.len(), call.response.len())
    };
    assert!(calls.len() <= 1, "{}: {calls:?}", context());
    let Some(found) = calls.pop() else {
        assert!(cut < call.request.len(), "{}: no call", context());
        return None;
    };
    assert_eq!(found.side, side, "{}", context());
    let answered = cut.saturating_sub(call.request.len());
    let whole = Some(call.completion);
    let is_failed = call.completion == Completion::Error && answered >= call.head;
    let allowed = if answered == call.response.len() || answered >= call.finish.end || is_failed {
        [whole, whole]
    } else if after == After::Loss {
        // The framing may tell that the response was whole: then a document was, and a stream that had its finish reason. Why
        // it finished may be missing.
        let (done, reasoned) = (Some(Completion::Done), answered > call.reason);
        let framed = if call.streamed && !reasoned { None } else { done };
        let reasoned = if reasoned { whole } else { framed };
        // What is missing behind the last word is none of the call's.
        let said_all = answered > call.finish.start && found.completion == whole;
        assert!(said_all || found.capture == Capture::Gap, "{}: {found:?}", context());
        let allowed = [None, Some(Completion::ServerClosed), framed, reasoned];
        assert!(allowed.contains(&found.completion), "{}: {found:?}", context());
        return Some(found.completion);
    } else if answered > call.finish.start {
        [whole, unfinished(after)]
    } else {
        [unfinished(after); 2]
    };
    assert!(allowed.contains(&found.completion), "{}: {:?} is none of {allowed:?}", context(), found.completion);
    if !matches!(after, After::Shutdown | After::Loss) {
        assert_eq!(found.capture, Capture::Complete, "{}", context());
    }
    Some(found.completion)
}

fn cut_everywhere(after: After, side: Side) {
    let mut cuts = 0;
    for call in Call::all() {
        let mut before = None;
        let first = if after == After::Loss { call.request.len() } else { 0 };
        for cut in first..=call.request.len() + call.response.len() {
            let now = check(&call, cut, after, side);
            assert!(before.is_none() || now.is_some(), "{}: the call is lost again at {cut}", call.name);
            let is_done = |end: Option<Option<Completion>>| end == Some(Some(call.completion));
            let keeps = after != After::Loss && cut > call.request.len() + call.head;
            assert!(!keeps || !is_done(before) || is_done(now), "{}: done is taken back at {cut}", call.name);
            before = now;
            cuts += 1;
        }
    }
    assert!(cuts > 50_000, "{cuts} cuts");
}

#[test]
fn two_hundred_different_calls() {
    let calls = Call::all();
    let mut wires: Vec<_> = calls.iter().map(|call| (&call.request, &call.response)).collect();
    wires.sort();
    wires.dedup();
    assert_eq!(wires.len(), 200);
    assert!(calls.iter().any(|call| call.transport == Transport::Http1(Framing::UntilClose)));
}

#[test]
fn client_closes_at_every_byte() {
    cut_everywhere(After::ClientCloses, Side::Client);
}

#[test]
fn server_closes_at_every_byte() {
    cut_everywhere(After::ServerCloses, Side::Client);
}

#[test]
fn server_closes_at_every_byte_seen_from_itself() {
    cut_everywhere(After::ServerCloses, Side::Server);
}

#[test]
fn rest_is_lost_at_every_byte() {
    cut_everywhere(After::Loss, Side::Client);
}

#[test]
fn silence_at_every_byte() {
    cut_everywhere(After::Silence, Side::Server);
}

#[test]
fn shutdown_at_every_byte() {
    cut_everywhere(After::Shutdown, Side::Client);
}
