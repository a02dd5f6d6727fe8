-- wrk sends POST requests with a body of as many bytes as the variable BENCH_POST_BYTES says.
wrk.method = "POST"
wrk.body = string.rep("x", tonumber(os.getenv("BENCH_POST_BYTES")))
