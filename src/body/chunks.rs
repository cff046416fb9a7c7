//! A copy of a body that grows frame by frame.

/// Bytes in chunks, so that growing never moves what is there, nor takes its room twice.
#[derive(Default)]
pub(super) struct Chunks {
    chunks: Vec<Vec<u8>>,
    len: usize,
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let chunk = match self.chunks.last_mut() {
                Some(chunk) if chunk.len() < chunk.capacity() => chunk,
                _ => {
                    // Small for a small body, and then larger with each chunk.
                    let room = self.len.max(data.len()).min(CHUNK);
                    self.chunks.push(Vec::with_capacity(room));
                    continue;
                }
            };
            let fits = data.len().min(chunk.capacity() - chunk.len());
            chunk.extend_from_slice(&data[..fits]);
            self.len += fits;
            data = &data[fits..];
        }
    }

    pub(super) fn into_vec(mut self) -> Vec<u8> {
        match self.chunks.len() {
            1 => self.chunks.remove(0),
            _ => self.chunks.concat(),
        }
    }
}

/// The greatest size of a chunk.
const CHUNK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back_in_order_whatever_its_pieces() {
        let all: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        for piece in [1, 7, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 300_000] {
            let mut copy = Chunks::default();
            for data in all.chunks(piece) {
                copy.push(data);
            }
            assert_eq!(copy.len(), all.len(), "pieces of {piece}");
            assert_eq!(copy.into_vec(), all, "pieces of {piece}");
        }
        assert_eq!(Chunks::default().into_vec(), Vec::<u8>::new());
    }
}
