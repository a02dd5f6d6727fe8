//! The checker's locks and atomics, under the names of the product's module.

pub use loom::sync::{Mutex, MutexGuard};
pub use loom::thread::yield_now;

/// Loom lets a read-modify-write overlook a plain store that nothing orders with an earlier one, although it must read
/// the last value. So it finds faults that cannot be. Here a store is a swap whose result is dropped, which orders
/// all writes of a variable; loads may still see any older value that the orderings leave open.
pub mod atomic {
    pub use loom::sync::atomic::Ordering;

    macro_rules! atomic {
        ($($name:ident $value:ty: { $($rest:tt)* })*) => { $(
            #[derive(Debug, Default)]
            pub struct $name(loom::sync::atomic::$name);

            impl $name {
                pub fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }
                #[track_caller]
                pub fn load(&self, order: Ordering) -> $value {
                    self.0.load(order)
                }
                #[track_caller]
                pub fn store(&self, value: $value, order: Ordering) {
                    self.0.swap(value, order);
                }
                #[track_caller]
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.0.swap(value, order)
                }
                $($rest)*
            }
        )* };
    }

    atomic! {
        AtomicBool bool: {}
        AtomicI32 i32: {}
        AtomicU32 u32: {
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: u32,
                new: u32,
                success: Ordering,
                failure: Ordering,
            ) -> Result<u32, u32> {
                self.0.compare_exchange_weak(current, new, success, failure)
            }
        }
        AtomicU64 u64: {
            #[track_caller]
            pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
                self.0.fetch_add(value, order)
            }
        }
    }
}
