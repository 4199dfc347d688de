package peer;

/** What the environment says. */
record Settings(
        String bootstrap, String topic, String group, String endpointUrl, String function, int batchSize, int bodyLimit) {

    static Settings fromEnvironment() {
        return new Settings(
                text("PEER_BOOTSTRAP"),
                text("PEER_TOPIC"),
                text("PEER_GROUP"),
                text("PEER_ENDPOINT_URL"),
                text("PEER_FUNCTION"),
                Integer.parseInt(text("PEER_BATCH_SIZE")),
                Integer.parseInt(text("PEER_BODY_LIMIT")));
    }

    private static String text(String name) {
        String value = System.getenv(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " is not set");
        }
        return value;
    }
}
