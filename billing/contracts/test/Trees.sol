// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @dev Payout trees as the portal builds them.
abstract contract Trees {
    function leaf(address account, uint256 cumulative) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
    }

    /// @dev The node above two. The root of a tree of two leaves, in which each leaf's proof is the other.
    function pair(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return left < right ? keccak256(bytes.concat(left, right)) : keccak256(bytes.concat(right, left));
    }

    function proofOf(bytes32 sibling) internal pure returns (bytes32[] memory proof) {
        proof = new bytes32[](1);
        proof[0] = sibling;
    }

    /// @dev The root of one leaf under so many levels of siblings that could be anything, and its proof.
    function deep(bytes32 bottom, uint256 levels) internal pure returns (bytes32 root, bytes32[] memory proof) {
        proof = new bytes32[](levels);
        root = bottom;
        for (uint256 i = 0; i < levels; ++i) {
            proof[i] = keccak256(abi.encode(bottom, i));
            root = pair(root, proof[i]);
        }
    }
}
