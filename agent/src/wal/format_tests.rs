use proptest::prelude::*;

use super::*;

fn header(first_seq: u64, encrypted: bool) -> SegmentHeader {
    let key_check = encrypted.then_some([4; KEY_CHECK_BYTES]);
    SegmentHeader { epoch: [1; EPOCH_BYTES], first_seq, salt: [2; SALT_BYTES], key_check, created_unix_nano: 3 }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(first_seq in 1..MAX_SEQ, seq: u64, stored in 0..=MAX_STORED, kind: u16, crc: u32, seed: u32) {
        for encrypted in [false, true] {
            let header = header(first_seq, encrypted);
            prop_assert_eq!(SegmentHeader::decode(&header.encode()), Head::Segment(header));
        }
        let frame = FrameHeader { stored, seq, kind, crc };
        prop_assert_eq!(FrameHeader::decode(&frame.encode(seed), seed), Some(frame));
        prop_assert_eq!(FrameHeader::decode(&frame.encode(seed), !seed), None, "another segment's");
        let note = Note { epoch: [7; EPOCH_BYTES], seq: first_seq };
        prop_assert_eq!(Note::decode(&note.encode()), Ok(note));
        prop_assert_eq!(first_seq_of(&segment_name(first_seq), ".seg"), Some(first_seq));
    }

    #[test]
    fn any_bytes_are_something(bytes in prop::collection::vec(any::<u8>(), 0..300), seed: u32) {
        prop_assert!(!matches!(SegmentHeader::decode(&bytes), Head::Segment(_)));
        prop_assert_eq!(FrameHeader::decode(&bytes, seed), None);
        prop_assert!(Note::decode(&bytes).is_err());
    }
}

#[test]
fn one_copy_of_a_header_is_enough_and_a_newer_one_is_known_for_that() {
    let good = header(9, true);
    for at in 0..HEADER_BYTES {
        let mut bytes = good.encode();
        bytes[at] ^= 0x10;
        assert_eq!(SegmentHeader::decode(&bytes), Head::Segment(good.clone()), "{at}");
    }
    let mut newer = good.encode();
    newer[8] = 2;
    newer[HEADER_COPY + 8] = 2;
    assert_eq!(SegmentHeader::decode(&newer), Head::Newer(2));
    assert_eq!(SegmentHeader::decode(&newer[..12]), Head::Newer(2));
    assert_eq!(SegmentHeader::decode(&[]), Head::Cut);
    let mut note = Note { epoch: [0; EPOCH_BYTES], seq: 1 }.encode();
    note[8] = 3;
    assert_eq!(Note::decode(&note), Err(NoteFault::Newer(3)));
}

#[test]
fn names_that_are_no_segments_have_no_seq() {
    for name in
        ["", ".seg", "1.seg", "+0000000000000000001.seg", "00000000000000000000.seg", "18446744073709551615.seg"]
    {
        assert_eq!(first_seq_of(name, ".seg"), None, "{name}");
    }
}
