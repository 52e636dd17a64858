/// Returns the Internet checksum of `parts` as if they stood one after the other. RFC 1071 §1.
///
/// Put the result into a checksum field that was zero while summing. Over data that already carries
/// its checksum the result is 0 when it matches. A part may have an odd length: the next one goes on
/// in the low half of the same word.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u16 {
    // 2^48 words fit into the sum before it overflows; no input comes near.
    let mut sum: u64 = 0;
    let mut high = true;
    for octet in parts.iter().flat_map(|part| part.iter()) {
        sum += if high { u64::from(*octet) << 8 } else { u64::from(*octet) };
        high = !high;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("the loop above left 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&data]), !0xddf2);
    }

    #[test]
    fn where_the_data_is_cut_does_not_matter() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6];
        for cut in 0..=data.len() {
            let (a, b) = data.split_at(cut);
            assert_eq!(checksum(&[a, b]), checksum(&[&data]), "cut at {cut}");
        }
    }

    #[test]
    fn data_with_its_checksum_sums_to_zero() {
        let data = [0x45, 0x00, 0x12, 0x34];
        let sum = checksum(&[&data]).to_be_bytes();
        assert_eq!(checksum(&[&data, &sum]), 0);
    }
}
