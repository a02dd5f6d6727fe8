//! Tests of the frame chunk cache: its bookkeeping over an allocator that counts, and the real thing in CPython.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ffi::CStr;
use std::ptr::null_mut;

use super::*;

thread_local! {
    /// Blocks that this thread's calls have taken from the allocator below, less those it has given back.
    static OUT: Cell<i64> = const { Cell::new(0) };
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 4096).unwrap()
}

extern "C" fn below_alloc(ctx: *mut c_void, size: usize) -> *mut c_void {
    assert!(ctx.is_null());
    OUT.set(OUT.get() + 1);
    // SAFETY: no test asks for 0 bytes.
    unsafe { alloc(layout(size)) }.cast()
}

extern "C" fn below_free(ctx: *mut c_void, block: *mut c_void, size: usize) {
    assert!(ctx.is_null());
    OUT.set(OUT.get() - 1);
    // SAFETY: the tests give back what `below_alloc` gave, with its size.
    unsafe { dealloc(block.cast(), layout(size)) };
}

fn cache(chunks_max: u32) -> Cache {
    Cache::new(below_alloc, below_free, chunks_max)
}

fn take(cache: &Cache, size: usize) -> *mut c_void {
    cache.alloc(null_mut(), size)
}

fn give(cache: &Cache, block: *mut c_void, size: usize) {
    cache.free(null_mut(), block, size);
}

/// Empties the list into the allocator below, so that the tests leak nothing.
fn drain(cache: &Cache) -> u32 {
    let mut drained = 0;
    while let Some(chunk) = cache.kept.lock().unwrap().pop() {
        below_free(null_mut(), chunk.as_ptr().cast(), CHUNK_BYTES);
        drained += 1;
    }
    drained
}

#[test]
fn the_last_freed_chunk_comes_back_first() {
    let cache = cache(4);
    let blocks = [(); 3].map(|()| take(&cache, CHUNK_BYTES));
    for block in blocks {
        give(&cache, block, CHUNK_BYTES);
    }
    assert_eq!(OUT.get(), 3, "kept");
    let again = [(); 3].map(|()| take(&cache, CHUNK_BYTES));
    assert_eq!(again, [blocks[2], blocks[1], blocks[0]]);
    let fresh = take(&cache, CHUNK_BYTES);
    assert!(!blocks.contains(&fresh));
    assert_eq!(OUT.get(), 4);
    for block in again.into_iter().chain([fresh]) {
        give(&cache, block, CHUNK_BYTES);
    }
    assert_eq!((drain(&cache), OUT.get()), (4, 0));
}

#[test]
fn no_more_than_the_limit_is_kept() {
    let cache = cache(2);
    let blocks = [(); 5].map(|()| take(&cache, CHUNK_BYTES));
    for block in blocks {
        give(&cache, block, CHUNK_BYTES);
    }
    assert_eq!(OUT.get(), 2);
    assert_eq!((drain(&cache), OUT.get()), (2, 0));
}

#[test]
fn other_sizes_pass_by() {
    let cache = cache(4);
    for size in [8, 4096, CHUNK_BYTES - 8, CHUNK_BYTES + 8, 2 * CHUNK_BYTES, 1 << 20] {
        let block = take(&cache, size);
        give(&cache, block, size);
        assert_eq!((OUT.get(), cache.kept.lock().unwrap().count), (0, 0), "{size} bytes");
    }
}

#[test]
fn a_chunk_from_before_is_taken_in() {
    let cache = cache(4);
    let old = below_alloc(null_mut(), CHUNK_BYTES);
    give(&cache, old, CHUNK_BYTES);
    assert_eq!(take(&cache, CHUNK_BYTES), old);
    give(&cache, old, CHUNK_BYTES);
    assert_eq!((drain(&cache), OUT.get()), (1, 0));
}

/// As in a child that was forked while another thread was in here: nobody will ever unlock.
#[test]
fn a_lock_that_is_held_for_ever_is_no_obstacle() {
    let cache = cache(4);
    let kept = take(&cache, CHUNK_BYTES);
    give(&cache, kept, CHUNK_BYTES);
    let held = cache.kept.lock().unwrap();
    let block = take(&cache, CHUNK_BYTES);
    assert_ne!(block, kept);
    give(&cache, block, CHUNK_BYTES);
    assert_eq!(OUT.get(), 1, "the block went back below");
    drop(held);
    assert_eq!((drain(&cache), OUT.get()), (1, 0));
}

#[test]
fn no_memory_stays_no_memory() {
    extern "C" fn nothing(_: *mut c_void, _: usize) -> *mut c_void {
        null_mut()
    }
    extern "C" fn never(_: *mut c_void, block: *mut c_void, _: usize) {
        assert!(block.is_null());
    }
    let cache = Cache::new(nothing, never, 4);
    assert!(take(&cache, CHUNK_BYTES).is_null());
    give(&cache, null_mut(), CHUNK_BYTES);
    assert_eq!(cache.kept.lock().unwrap().count, 0);
}

/// Each thread writes its number over its chunks and must find it there: no chunk has two owners.
#[test]
fn threads_never_share_a_chunk() {
    const THREADS: u8 = 4;
    const ROUNDS: usize = 500;
    let cache = cache(8);
    let work = |number: u8| {
        for round in 0..ROUNDS {
            let held: Vec<_> = (0..1 + round % 5).map(|_| take(&cache, CHUNK_BYTES)).collect();
            for block in &held {
                // SAFETY: the block is ours alone until it is given back; that is what is tested.
                unsafe { block.cast::<u8>().write_bytes(number, CHUNK_BYTES) };
            }
            for block in held {
                // SAFETY: as above, and written just now.
                let bytes = unsafe { std::slice::from_raw_parts(block.cast::<u8>(), CHUNK_BYTES) };
                assert!(bytes.iter().all(|byte| *byte == number));
                give(&cache, block, CHUNK_BYTES);
            }
        }
        OUT.get()
    };
    let out: i64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let kept = drain(&cache);
    assert!(kept <= 8);
    assert_eq!(out, i64::from(kept), "what is not kept has gone back");
}

const THREADS_AND_DEPTH: &CStr = c"
import threading
def depth(left):
    return 1 + depth(left - 1) if left else 0
results = []
def work(number):
    results.append(depth(100 + number))
for turn in range(5):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
assert sorted(results) == sorted(5 * list(range(100, 120))), results
";

#[test]
fn python_runs_on_kept_chunks_and_nothing_is_installed_twice() {
    Python::initialize();
    Python::attach(|py| {
        assert!(!install_chunk_cache(py, 0), "off");
        assert!(install_chunk_cache(py, 16));
        assert!(!install_chunk_cache(py, 16), "already there");
        py.run(THREADS_AND_DEPTH, None, None).unwrap();
        let kept = CACHE.get().unwrap().kept.lock().unwrap().count;
        assert!((1..=16).contains(&kept), "{kept} kept");
    });
}
