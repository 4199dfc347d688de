//! One connection to a broker, without the socket: version negotiation, correlation, order of answers.
