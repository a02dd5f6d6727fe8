//! Buffers that grow with what a client sends, and whose memory is counted: they take little more than they hold.

/// The part of its bytes (one in so many) by which such a buffer grows ahead of them: a byte is copied a few times on
/// its way into a large one, and little is taken that is not used.
const GROWTH_PART: usize = 4;

/// Appends `data` to a buffer whose capacity is to stay near its length.
pub fn append_tight(buffer: &mut Vec<u8>, data: &[u8]) {
    if buffer.capacity() - buffer.len() < data.len() {
        buffer.reserve_exact(data.len().max(buffer.len() / GROWTH_PART));
    }
    buffer.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_takes_little_more_than_it_holds() {
        let (mut buffer, mut moves) = (Vec::new(), 0);
        for piece in 0..1000_usize {
            let before = buffer.capacity();
            append_tight(&mut buffer, &[piece as u8; 100]);
            moves += usize::from(buffer.capacity() != before);
            assert!(buffer.capacity() <= buffer.len() + buffer.len() / GROWTH_PART + 100);
        }
        assert!(buffer.len() == 100_000 && moves < 50, "{moves}");
    }
}
