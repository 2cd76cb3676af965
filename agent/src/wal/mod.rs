//! The log of what is on its way: what is durable here is delivered, whatever happens to the agent or the receiver.
