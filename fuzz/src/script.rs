/// One thing that a peer, the clock or the cluster does to a PPP engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed<'a> {
    /// A frame with these octets.
    Frame(&'a [u8]),
    /// The peer acknowledges the newest Configure-Request of this protocol.
    Agree(u16),
    /// The peer answers the newest CHAP challenge.
    Respond,
    /// This many milliseconds pass.
    Wait(u64),
    /// The credentials are good, or not.
    Verdict(bool),
    /// The session is granted, or not.
    Grant(bool),
    /// An operator ends it.
    Close,
}

/// Deeds in one input.
const DEEDS_MAX: usize = 200;

/// Reads deeds: one octet names it, a frame follows as its length in two octets and itself, and the
/// length of a wait in one.
pub(crate) fn deeds(mut data: &[u8]) -> impl Iterator<Item = Deed<'_>> {
    std::iter::from_fn(move || {
        let (op, rest) = data.split_first()?;
        data = rest;
        Some(match op % 10 {
            0 => Deed::Frame(take_frame(&mut data)),
            1 => Deed::Agree(ppp::wire::protocol::LCP),
            2 => Deed::Agree(ppp::wire::protocol::IPCP),
            3 => Deed::Respond,
            4 => {
                let (units, rest) = data.split_first().unwrap_or((&0, &[]));
                data = rest;
                Deed::Wait(u64::from(*units) * 100)
            }
            5 => Deed::Verdict(true),
            6 => Deed::Verdict(false),
            7 => Deed::Grant(true),
            8 => Deed::Grant(false),
            _ => Deed::Close,
        })
    })
    .take(DEEDS_MAX)
}

fn take_frame<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return std::mem::take(data) };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (frame, rest) = rest.split_at(length);
    *data = rest;
    frame
}
