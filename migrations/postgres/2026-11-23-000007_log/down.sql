ALTER TABLE cluster
    DROP COLUMN kafka_topic_prefix,
    DROP COLUMN kafka_cluster_id;
