def bench_operation(replay):
    replay()
