//! Peak.
use lakelens_engine::kernels::peak::{Arithmetic, measure};
fn main() {
    for a in [Arithmetic::F32, Arithmetic::Bf16, Arithmetic::Int8] {
        println!("{a:?}: {:?} GOP/s", measure(a, 5).map(|x| x / 1e9));
    }
}
