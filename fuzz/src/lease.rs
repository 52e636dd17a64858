use model::{NodeId, Tick};
use quorum_lease::{Message, Timing, Voter};

pub(crate) fn message(data: &[u8]) {
    let Ok(message) = Message::decode(data) else { return };
    // One message has one form, so that nothing hides in an authenticated datagram.
    assert_eq!(message.encode(), data);
    let mut voter = Voter::new(Tick::ZERO, Timing::default());
    for (node, ms) in [(1, 10), (1, 1000), (2, 1001), (1, 5000)] {
        if let Some(reply) = voter.on_message(NodeId(node), &message, Tick::from_ms(ms)) {
            assert_eq!(Message::decode(&reply.encode()), Ok(reply));
        }
    }
}
