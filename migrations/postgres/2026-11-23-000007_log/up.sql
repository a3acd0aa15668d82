-- Which log the positions are of.

ALTER TABLE cluster
    ADD COLUMN kafka_topic_prefix text,
    ADD COLUMN kafka_cluster_id   text;
COMMENT ON COLUMN cluster.kafka_topic_prefix IS
    'Of the topics that the positions are of; set by the first process that names one.';
COMMENT ON COLUMN cluster.kafka_cluster_id IS
    'Of the Kafka cluster that the positions are of; set by the first process that reaches one.';
