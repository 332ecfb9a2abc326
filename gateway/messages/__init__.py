"""The Anthropic Messages API as bytes and facts; pure, knows no HTTP library, policy or journal."""
