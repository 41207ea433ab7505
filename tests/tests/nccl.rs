//! Training over NCCL: one rank for each card, of the first two.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use candle_core::{DType, Device, Result, Tensor};
use hypernn::nn::{AdamW, SGD};
use hypernn::parallel::{AllReduce, Nccl, Threads};
use hypernn_tests::message;
use hypernn_tests::parallel::{Settings, largest_difference, trained_alone, trained_on};

/// How many of the first two cards are here; with `HYPERNN_REQUIRE_CUDA=1` at least one.
fn cards() -> usize {
    let cards = (0..2).take_while(|&number| Device::new_cuda(number).is_ok()).count();
    let required = std::env::var("HYPERNN_REQUIRE_CUDA").is_ok_and(|value| value == "1");
    assert!(cards > 0 || !required, "HYPERNN_REQUIRE_CUDA is set, but there is no CUDA device");
    if cards == 0 {
        eprintln!("skipped: no CUDA device");
    }
    cards
}

fn on_cards<T: Send>(rank: impl Fn(&Nccl, &Device) -> Result<T> + Sync) -> Option<Vec<T>> {
    let cards = cards();
    (cards > 0).then(|| {
        let on_card = |threads: &Threads| {
            let device = Device::new_cuda(threads.rank())?;
            rank(&Nccl::new(threads, &device)?, &device)
        };
        Threads::run(cards, on_card).unwrap()
    })
}

fn assert_as_one<O: Settings>(dtype: DType, tolerance: f64) {
    let Some(ranks) = on_cards(|rank, device| trained_on::<O>(device, rank, dtype, 50)) else {
        return;
    };
    assert!(ranks.iter().all(|values| values == &ranks[0]), "ranks differ");
    let difference = largest_difference(&ranks[0], &trained_alone::<O>(dtype, 50).unwrap());
    assert!(difference <= tolerance, "{difference:e}");
}

#[test]
fn cards_have_the_values_of_one_process() {
    assert_as_one::<SGD>(DType::F64, 1e-10);
    assert_as_one::<SGD>(DType::F32, 1e-5);
    assert_as_one::<AdamW>(DType::F64, 1e-10);
}

#[test]
fn each_dtype_is_summed_and_sent() {
    let done = on_cards(|rank, device| {
        let (own, size) = (rank.rank() as f64, rank.size() as f64);
        // A view that starts within another tensor.
        let tensor = |dtype| {
            Tensor::new(&[[9., 9.], [own, 1.], [2., own]], device)?.to_dtype(dtype)?.narrow(0, 1, 2)
        };
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.to_vec2::<f64>();
        let all = size * (size - 1.) / 2.;
        let mut sums = [tensor(DType::F32)?, tensor(DType::F64)?, tensor(DType::F64)?.t()?];
        rank.all_reduce(&mut sums)?;
        assert_eq!(values(&sums[0])?, [[all, size], [2. * size, all]]);
        assert_eq!(values(&sums[1])?, values(&sums[0])?);
        assert_eq!(values(&sums[2])?, [[all, 2. * size], [size, all]]);
        for dtype in [DType::F32, DType::F64, DType::U8, DType::U32, DType::I64] {
            let mut sent = [tensor(dtype)?];
            rank.broadcast(&mut sent, rank.size() - 1)?;
            assert_eq!(sent[0].dtype(), dtype);
            assert_eq!(values(&sent[0])?, [[size - 1., 1.], [2., size - 1.]]);
        }
        let mut nothing = [Tensor::zeros((0, 3), DType::F32, device)?];
        rank.all_reduce(&mut nothing)?;
        assert_eq!(nothing[0].dims(), [0, 3]);
        Ok(())
    });
    assert!(done.is_none_or(|ranks| !ranks.is_empty()));
}

#[test]
fn what_has_no_card_is_an_error() {
    let new = || Threads::run(2, |rank| Nccl::new(rank, &Device::Cpu).map(drop));
    assert_eq!(message(new()), "NCCL needs a CUDA device, found Cpu");
}
