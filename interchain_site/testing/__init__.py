"""What tests of every app share: the cast and the real servers. Never imported by the product."""
