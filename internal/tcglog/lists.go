// SPDX-License-Identifier: Apache-2.0

package tcglog

import "github.com/cvm-agentd/agentd/pcr"

// Lists of shim. One of a certificate is an EFI_SIGNATURE_LIST (UEFI 2.10, section 32.4.1)
// of type X.509, with shim's GUID as the owner. The empty one is of type SHA-256, with one
// hash that is zero.
var (
	emptyList = list{
		pcr.SHA1:   "525ff70d4cfa4b2c76a2e23fc4490797932bd3f2",
		pcr.SHA256: "8d8a3aae50d5d25838c95c034aadce7b548c9a952eb7925e366eda537c59c3b0",
		pcr.SHA384: "80ee2571334a57bf90238d21964447e542079d4805fa87887817a97dcb720906683a09b1ac634c76c0c0be1177f76110",
		pcr.SHA512: "db81dbfd6932af3e86e5bbc89cd0d17680d9374d54826e34ea042ef4aec4eaba4fac46b8725644e575493db0260cd17be0d64b51bd5287ef1f8d87656e926d03",
	}
	canonicalList = list{
		pcr.SHA1:   "68bcec6001e5c3f2fbdd9aa9aa91da92fc893f29",
		pcr.SHA256: "2f196b05a0564764cca674175ecd97898e74ed3891c7c63ce6f17dc82603164a",
		pcr.SHA384: "053357ea65185f010b8caa1fc265cfd5e80c7cc781254fa3f1e5ea9d345a87003cf761472a2f0423f15297f55cfe248f",
	}
	redHatList = list{
		pcr.SHA1:   "b64394ecdac7000add7197d2ad5243c4c7752883",
		pcr.SHA256: "69bbddbe5a4480b7ab2e5632638b978bba978e66d04b677b3fd4ad2e5c7e1c5b",
		pcr.SHA384: "4793c2425df6a882daddd56a80a155a293a2271977680c51d8a0c0bcc9a7d45121ed4e70aac92a840b80c3a479a156b2",
		pcr.SHA512: "84040805abe930ad3566fdcda5bb85f771d56b763c3c7d6d613f0aaa85aee4058756e089b43d0b997e0521a8040bc82d5ad968716656f4e1c440a4368ed46972",
	}
	centOSList = list{
		pcr.SHA1:   "a8f59c348d83c75b3d28c2668700ed46e8f94d1a",
		pcr.SHA256: "97914ece726a70db02f8d344541dfea0b74ace699e1cbe8bd3f16c8818fcedd7",
		pcr.SHA384: "a99a5aee72541a9336b557efe941c64f31b26f8e10b3492fbf6f9d8e1731ebe61f6de1e30a868de6d0a9533e4463b63d",
		pcr.SHA512: "efe68895fe3774f3974f9f0ebf70d155479bf4bd586ad6e9b4ee1039d62de09161924ecc7f2f5d4374a5bf73a304c502d627e20fd8883903c2bc494f168d1baa",
	}
	debianList = list{
		pcr.SHA1:   "28a3343cce7732bfd9a36a2f56e780ddfe3736b1",
		pcr.SHA256: "342c88bb9fde2c45eeaa17321262b089181e7e841ef5a4a5e8ed240920026f97",
		pcr.SHA384: "37c83c3099f653fab5bbcd452d417d9f7ad4af7140cb664da0390d9f1d93b0a9cd403e27bd3f5d63a48eabe3d6d158b0",
		pcr.SHA512: "4ac260a0e349cc45f44c03b50d8327eb456c6bb42fd1f8c0b173ccc0d80c5e546428b674959434f2dacc6547e85ad6ad4463a6899c3f203dd97c962f18eddc9a",
	}
	// debianRefused is of version 16.1 of shim: it lists binaries, and grows.
	debianRefused = list{
		pcr.SHA1:   "d22c90e58e8c18e95b7c3314e0d670005ed009ce",
		pcr.SHA256: "2801360e467582609990635ca6255516630c3cea75c47320128b36ae062bc7b3",
		pcr.SHA384: "6e142bed8fa118ce2b4bcc1c8d833acb6fa7d3a48e96e50edc9ea789df77cfcb5b64fa8a035eafc8b39a73a9ef7bceee",
		pcr.SHA512: "b532803999d489a5a6911241ebf9ef1117db888f4472878efcebbae60aaf0d09ef0516ab7232006ab3fdf03015033147c6a8491565a1d7eda202d4842a00f995",
	}
)
