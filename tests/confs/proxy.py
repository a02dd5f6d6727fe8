"""Behind a load balancer that ends TLS and says so in its own header."""

bind = "127.0.0.1:0"
forwarded_allow_ips = "*"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https", "CLOUDFRONT-FORWARDED-PROTO": "https"}
